"""How good the answers are: question sets, figures, curves, and thresholds with a bound. What ``fourcorners eval`` and
``fourcorners calibrate`` run."""
