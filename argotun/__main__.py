"""`python -m argotun`."""

from argotun.cli import main

raise SystemExit(main())
