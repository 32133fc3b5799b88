"""Smoke tests: networks that crash, in a process that may."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tests.training.fake_networks as fakes
from cls.bottle.layout import Bottle
from cls.errors import NetworkError
from cls.training.config import TrainConfig
from cls.training.network import smoke_test
from cls.training.network.build import build_network, head_names, head_of, memory_format_of
from cls.training.network.smoke_test import CHANNELS_LAST, CONTIGUOUS, RunningSmokeTest, SmokeTest
from tests.bottles import GROUP, make_tiny_bottle, train_tiny_run
from tests.preloaded import Program

Starts = list[list[str]]


@pytest.fixture
def starts(new_starts: Starts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starts:
    """The same of processes that have everything imported already."""

    def forked(command: list[str], **options: Any) -> Program:
        known = f"import sys; sys.path.insert(0, {str(tmp_path / 'path')!r}); sys.modules.pop('sitecustomize', None); "
        assert command[:2] == [sys.executable, "-c"]
        return Program(["-c", f"{known}import sitecustomize; {command[2]}"], **options)

    monkeypatch.setattr(smoke_test, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": forked}))
    return new_starts


@pytest.fixture
def new_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starts:
    """The memory formats of every child process that is started; results are kept in the test's own folder."""
    fakes.known_to_child_processes(tmp_path / "path", monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    started: Starts = []
    start: Callable[..., object] = smoke_test._start

    def counted(test: SmokeTest, formats: list[str]) -> object:
        started.append(list(formats))
        return start(test, formats)

    monkeypatch.setattr(smoke_test, "_start", counted)
    return started


def smoke_test_of(arch: str, **options: object) -> SmokeTest:
    values = {"batch": 4, "height_px": 64, "width_px": 48, **options}
    config = TrainConfig(GROUP, arch=arch, **values)  # type: ignore[arg-type]
    return SmokeTest(config=config, timm_arch=arch, outputs=3, is_pretrained=False)


def result_of(test: SmokeTest) -> str:
    with RunningSmokeTest(test) as running:
        return running.memory_format()


def test_what_crashes_in_channels_last_is_trained_contiguous(
    tmp_path: Path, starts: Starts, caplog: pytest.LogCaptureFixture
) -> None:
    bottle = make_tiny_bottle(tmp_path)
    with caplog.at_level(logging.INFO, logger="cls"):
        run = train_tiny_run(bottle, arch="fake_dies_in_channels_last")
    assert run.args.memory_format == CONTIGUOUS
    assert starts == [[CHANNELS_LAST, CONTIGUOUS], [CONTIGUOUS]]
    (logged,) = [record.args for record in caplog.records if "SIGSEGV" in record.message]
    assert logged is not None
    assert CONTIGUOUS in tuple(logged)
    train_tiny_run(bottle, arch="fake_dies_in_channels_last", seed=1)
    assert len(starts) == 2, "the result is kept"


def test_what_crashes_anyway_is_refused_and_leaves_no_run(tmp_path: Path, starts: Starts) -> None:
    bottle = make_tiny_bottle(tmp_path)
    with pytest.raises(NetworkError) as caught:
        train_tiny_run(bottle, arch="fake_dies")
    assert caught.value.code == "network.trial_crashed"
    assert "SIGSEGV" in caught.value.what
    assert "\n" not in caught.value.line()
    assert caught.value.hint
    assert not list(bottle.models(GROUP).glob("v__*"))
    assert not smoke_test_of("fake_dies").file.exists()


@pytest.mark.parametrize(
    ("arch", "code"), [("fake_two_answers", "network.wrong_output"), ("fake_nan", "network.output_not_finite")]
)
def test_what_gives_no_logits_is_refused(starts: Starts, arch: str, code: str) -> None:
    with pytest.raises(NetworkError) as caught:
        result_of(smoke_test_of(arch))
    assert caught.value.code == code
    assert arch in caught.value.what
    assert len(starts) == 1, "an error is no crash: one process tells of both formats"


def test_threads_wait_passively_whatever_the_training_does(new_starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spinning took five times the processor time of the test itself."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert result_of(smoke_test_of("fake_asks_for_passive_threads")) == CHANNELS_LAST


def test_a_result_is_shared_by_trainings_that_differ_in_nothing_it_depends_on(starts: Starts) -> None:
    assert result_of(smoke_test_of("test_resnet")) == CHANNELS_LAST
    others = [smoke_test_of("test_resnet", **more) for more in ({"batch": 16}, {"ema": 0.9}, {"seed": 3, "lr": 0.01})]
    assert [result_of(other) for other in others] == [CHANNELS_LAST] * 3
    assert len(starts) == 1
    assert smoke_test_of("test_resnet", stripes=2).cached_format() is None


def test_a_result_is_kept_by_version_and_a_damaged_one_is_made_again(
    starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = smoke_test_of("mobilenetv3_small_050")
    assert result_of(test) == CHANNELS_LAST
    assert result_of(smoke_test_of("mobilenetv3_small_050")) == CHANNELS_LAST
    assert len(starts) == 1
    for damage in (b"", b"{", b"[]", b'{"memory_format": "channels_last"}', b"\xff\xfe"):
        test.file.write_bytes(damage)
        assert test.cached_format() is None, damage
    assert result_of(test) == CHANNELS_LAST
    assert len(starts) == 2
    assert test.cached_format() == CHANNELS_LAST
    others = [smoke_test_of("mobilenetv3_small_075"), smoke_test_of("mobilenetv3_small_050", width_px=64)]
    monkeypatch.setattr(torch, "__version__", "99.0")
    for other in (*others, smoke_test_of("mobilenetv3_small_050")):
        assert other.file != test.file
        assert other.cached_format() is None


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert result_of(smoke_test_of("test_resnet")) == CHANNELS_LAST


def test_repvgg_is_trained_and_not_in_channels_last_on_a_cpu(tmp_path: Path, starts: Starts) -> None:
    """Its strided 1x1 convolution of the image writes past a buffer; whether that crashes is chance."""
    if torch.cuda.is_available():
        pytest.skip("the fault is the CPU's")
    run = train_tiny_run(make_tiny_bottle(tmp_path), arch="repvgg_a0")
    assert run.args.memory_format == CONTIGUOUS
    assert memory_format_of(run.load_network()) == torch.contiguous_format


@pytest.fixture(scope="module")
def levit_bottle(tmp_path_factory: pytest.TempPathFactory) -> Bottle:
    return make_tiny_bottle(tmp_path_factory.mktemp("levit"))


def test_a_backbone_with_a_second_head_is_trained_with_one(levit_bottle: Bottle, starts: Starts) -> None:
    run = train_tiny_run(levit_bottle, arch="levit_128s", height_px=224, width_px=224, background_people=0)
    network = run.load_network()
    assert len(head_names(network)) == 2
    head = head_of(network)
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        before = network(images)
        head.bias.add_(1)
        torch.testing.assert_close(network(images), before + 1)
    temperature = run.metrics.calibration.temperature
    assert temperature == 1.0 or "last linear layer" not in run.metrics.calibration.source


def test_the_memory_format_is_read_of_the_weights() -> None:
    network = build_network("mobilenetv3_small_050", 3, 64, 48)
    assert memory_format_of(network) == torch.contiguous_format
    assert memory_format_of(network.to(memory_format=torch.channels_last)) == torch.channels_last
