"""`python -m argotun`."""

from argotun.entry import main

raise SystemExit(main())
