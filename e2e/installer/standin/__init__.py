"""The stand-in installer: see standin-installer."""
