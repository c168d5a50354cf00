"""The application: `python -m train.main [train|eval|sample|ood]`."""
