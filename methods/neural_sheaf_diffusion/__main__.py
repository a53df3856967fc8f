"""`python -m methods.neural_sheaf_diffusion`"""

from methods.neural_sheaf_diffusion.nsd import main

main()
