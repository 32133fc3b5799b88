"""Every page and report is drawn here: one renderer, one stylesheet, charts, small pictures."""
