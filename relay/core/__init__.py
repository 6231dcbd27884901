"""The vocabulary every other package speaks: frozen types of mail, and the interfaces between the layers.

Nothing here touches a socket, a clock, a file or a random source, and nothing here imports another package of Postern.
"""
