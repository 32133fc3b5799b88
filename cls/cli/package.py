"""`cls package …`: what is in a package, whether it is in order, made again for this machine, and signed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cls.cli.command import Command, add_options, add_trust_argument, bottle_of, given
from cls.errors import InstallError
from cls.exporting.formats.files import RebuildConfig
from cls.wording import counted

if TYPE_CHECKING:
    from cls.package.keys import TrustedKeys
    from cls.package.verifying import Verification


def _add_show_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", type=Path, metavar="ZIP|FOLDER", help="a package, or the folder of `cls export`")
    parser.add_argument("--json", action="store_true", help="print one JSON object, with all of meta.json")


def _show(options: argparse.Namespace) -> None:
    from cls.package.card import card_of

    card = card_of(options.package)
    print(card.to_json() if options.json else card.text())


def _add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "packages", type=Path, nargs="+", metavar="ZIP|FOLDER", help="packages, or folders with packages"
    )
    add_trust_argument(parser)


def _verify(options: argparse.Namespace) -> None:
    from cls.errors import PackageError, PackageFault
    from cls.package.card import zips_of
    from cls.package.keys import trusted_keys
    from cls.package.plans import this_machine
    from cls.package.verifying import Verification, verify_zip
    from cls.settings import load_settings

    settings = load_settings(options.cfg)
    trust = trusted_keys(options.trust, settings)
    host = this_machine()
    zips: list[Path] = []
    bad: list[Verification] = []
    for path in options.packages:
        try:
            zips += zips_of(path)
        except PackageError as error:
            bad.append(Verification(path, [PackageFault.of(error)]))
            _print_verification(bad[-1])
    looked_at = len(zips) + len(bad)
    for zip_path in zips:
        found = verify_zip(zip_path, host, trust)
        if not found.problems:
            _run_model(found, trust)
        _print_verification(found)
        if found.problems:
            bad.append(found)
    if bad:
        count = sum(len(found.problems) for found in bad)
        raise PackageError(
            f"{counted(count, 'problem')} in {len(bad)} of {counted(looked_at, 'package')}",
            code="problems_found",
            where=", ".join(str(found.path) for found in bad),
            hint=_what_to_do(bad),
            faults=[problem for found in bad for problem in found.problems],
        )


def _run_model(found: Verification, trust: TrustedKeys | None) -> None:
    """Enters whether the model runs here; where the packages for that are not installed, that it was not tried."""
    try:
        from cls.runtimes.open import try_package
    except ModuleNotFoundError as error:
        missing = InstallError.of(error)
        if missing is None:
            raise
        found.not_checked.append(f"the model was not run: {missing.line()}")
    else:
        try_package(found, trust)


def _what_to_do(bad: Sequence[Verification]) -> str:
    hints = [found.distrust.hint for found in bad if found.distrust is not None and found.distrust.hint]
    return hints[0] if hints else "get it again from whoever made it, or make it again with `cls export`"


def _print_verification(found: Verification) -> None:
    print(f"{found.path}: {'in order' if not found.problems else counted(len(found.problems), 'problem')}")
    for word, lines in (
        ("PROBLEM", found.problems),
        ("signature", [found.signature] if found.signature else []),
        ("warning", found.warnings),
        ("ok", found.checked),
        ("not checked", found.not_checked),
    ):
        for line in lines:
            print(f"  {word}: {line}")


def _add_rebuild_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "package", type=Path, metavar="ZIP", help="a package with its ONNX: model_onnx.zip, or a plan's"
    )
    add_options(parser, RebuildConfig)
    add_trust_argument(parser)


def _rebuild(options: argparse.Namespace) -> None:
    config = RebuildConfig(**given(options, RebuildConfig))
    from cls.cli.storage import push_lines
    from cls.exporting.rebuild import rebuild_package
    from cls.package.keys import trusted_keys

    bottle = bottle_of(options)
    made = rebuild_package(options.package, bottle, config, trust=trusted_keys(options.trust, bottle.settings))
    report = made.report
    print(f"{options.package} -> {made.path}")
    print(f"  proven on {made.proof}, in {report.runtime}")
    print(
        f"  {report.in_words()} (batch {', '.join(str(batch) for batch in report.batch_sizes)});"
        f" report: {made.report_file.with_suffix('.html')}"
    )
    plan = made.meta.package.plan if made.meta.package else None
    if plan is not None:
        print(f"  for compute capability {plan.compute_capability} ({plan.gpu}) and TensorRT {plan.tensorrt_version}")
    which = made.path.name.removeprefix("model_").removesuffix(".zip")
    if made.path.resolve() == bottle.inference_model(made.meta.group).resolve() / f"model_{which}.zip":
        print(push_lines(bottle, made.meta.group, which))


def _add_vectors_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", type=Path, metavar="ZIP", help="a package that `cls export` made")
    parser.add_argument("--write", type=Path, metavar="DIR", help="also write the vectors' files into this folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_trust_argument(parser)


def _vectors(options: argparse.Namespace) -> None:
    from cls.errors import PackageError
    from cls.package.archive import open_package
    from cls.package.keys import trusted_keys
    from cls.package.packing import VECTORS_FOLDER
    from cls.package.vectors import read_vectors
    from cls.runtimes.conformance import check_vectors
    from cls.runtimes.open import open_classifier

    bottle = bottle_of(options)
    trust = trusted_keys(options.trust, bottle.settings)
    with open_package(options.package, trust=trust) as package:
        vectors = read_vectors(package, package.meta())
        if options.write is not None:
            others = [name for name in package.names if not name.startswith(VECTORS_FOLDER)]
            package.extract(options.write, leave_out=others)
    classifier = open_classifier(str(options.package), bottle, trust=trust)
    results = check_vectors(classifier, vectors)
    if options.json:
        said = {
            "made_by": vectors.runtime,
            "checked_by": classifier.runtime.description,
            "max_probability_difference": vectors.max_probability_difference,
            "cases": [asdict(result) for result in results],
        }
        print(json.dumps(said, ensure_ascii=False, indent=2))
    else:
        print(f"made by {vectors.runtime}, checked by {classifier.runtime.description}; largest differences:")
        print(f"{'case':<18} {'levels':>6} {'input':>9} {'probability':>11}")
        for result in results:
            verdict = "met" if result.is_met else "NOT MET"
            numbers = f"{result.levels:>6} {result.tensor:>9.2g} {result.probability:>11.2g}"
            print(f"{result.name:<18} {numbers}  {verdict}")
    missed = [result.name for result in results if not result.is_met]
    if missed:
        raise PackageError(
            f"{len(missed)} of {counted(len(results), 'conformance vector')} not met: {', '.join(missed)}",
            code="vectors_failed",
            where=options.package,
            hint="export again where the package is used, or update the runtime",
        )


def _add_sign_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "packages", type=Path, nargs="+", metavar="ZIP|FOLDER", help="packages, or folders with packages"
    )
    parser.add_argument("--key", type=Path, required=True, metavar="KEY", help="the private key")


def _sign(options: argparse.Namespace) -> None:
    from cls.package.card import zips_of
    from cls.package.keys import read_signing_key
    from cls.package.verifying import sign_package, signed_by
    from cls.settings import load_settings

    signer = read_signing_key(options.key, passphrase=load_settings(options.cfg).signing_passphrase)
    for zip_path in [zip_path for path in options.packages for zip_path in zips_of(path)]:
        print(f"{zip_path}: {signed_by(sign_package(zip_path, signer))}")


def _add_keygen_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", type=Path, metavar="FILE", help="the private key to write; the public key is FILE.pub")


def _keygen(options: argparse.Namespace) -> None:
    from cls.errors import UsageError
    from cls.package.keys import PASSPHRASE_VARIABLE, PUBLIC_SUFFIX, make_key

    bottle = bottle_of(options)
    path: Path = options.key
    if path.resolve().is_relative_to(bottle.root.resolve()):
        raise UsageError(
            f"{path} is in the data folder, which is passed on with all that is in it",
            code="inside_data_folder",
            hint="give a place of your own, e.g. ~/.ssh/packages.key",
        )
    made = make_key(path, passphrase=bottle.settings.signing_passphrase)
    encryption = (
        "encrypted" if bottle.settings.signing_passphrase else f"not encrypted: {PASSPHRASE_VARIABLE} is not set"
    )
    print(f"private key: {path} ({encryption}); it signs: keep it to yourself")
    print(f"public key:  {path}{PUBLIC_SUFFIX}; it checks: give it to those who use your packages, for --trust")
    print(f"fingerprint: {made.fingerprint}")


SHOW = Command("package show", "what a package is: labels, preprocessing, parity, digests", _add_show_arguments, _show)
VERIFY = Command("package verify", "whether a package is in order: lists every problem", _add_verify_arguments, _verify)
VECTORS = Command(
    "package vectors",
    "check a package against the conformance vectors it carries, and show the differences",
    _add_vectors_arguments,
    _vectors,
)
REBUILD = Command(
    "package rebuild",
    "make a package again on the machine that serves it, and prove it",
    _add_rebuild_arguments,
    _rebuild,
    extra="train",
)
SIGN = Command("package sign", "sign packages that are there, beside earlier signatures", _add_sign_arguments, _sign)
KEYGEN = Command("package keygen", "make a key pair that packages are signed with", _add_keygen_arguments, _keygen)
