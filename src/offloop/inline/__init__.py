"""Workers that are threads of the server, for `Pool(inline=True)` and for scripted workers of tests."""
