"""Other people's implementations against these: `verify`."""

from trref.conformance.verify import Failure, Verdict, verify

__all__ = ["Failure", "Verdict", "verify"]
