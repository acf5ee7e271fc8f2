"""The searches behind `run_verification.py`: what it takes to break each promise of SPEC.md, section 2."""
