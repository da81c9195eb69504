"""What pip needs to install argotun; tools are configured in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "argotun" / "__init__.py").read_text("utf-8"), re.M)[1]


def requirements(name="requirements.in"):
    """The direct requirements of that file, with the range that each of its lines allows."""
    lines = (HERE / name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]


setup(
    name="argotun",
    version=VERSION,
    description="A reverse tunnel from customers' Kubernetes clusters to a managed Argo CD",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["argotun", "argotun.*"]),
    package_data={"argotun": ["py.typed"]},
    install_requires=requirements(),
    # Traces, where a collector is named (argotun/observe/otlp.py): nothing else imports any of it.
    extras_require={"otel": requirements("requirements-otel.in")},
    entry_points={"console_scripts": ["argotun = argotun.entry:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Typing :: Typed",
    ],
    zip_safe=False,
)
