"""What other people's suites say of argotun: `make conformance`."""
