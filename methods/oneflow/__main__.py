"""`python -m methods.oneflow`"""

from methods.oneflow.runtime import main

main()
