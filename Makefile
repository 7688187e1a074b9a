# Targets explain themselves: `make help`.
