"""The contenders of `assay.contenders`, under the name that papers had for them."""

from assay.contenders import Contender, parameters_of, spent

__all__ = ["Contender", "parameters_of", "spent"]
