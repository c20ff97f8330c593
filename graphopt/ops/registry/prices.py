"""What onnxruntime's CPU kernels cost, in µs: measured with two threads on an AVX-512 server.

Only their ratios matter: they choose between formulations. docs/performance.md has the times.
"""

OP = 4.0  # an op's start
PLAIN = 2 / 300e3  # a multiplication in a matrix product
BLOCKED = 2 / 280e3  # one in a convolution of blocks
COLUMNS = 1.5e-4  # an element of a window that is laid out for a product
SCATTERED = 4.5e-4  # one that is added to its place from a product
IMAGE = 5.5  # an image of a ConvTranspose, which takes them one by one
MOVED = 1.0e-4  # an element that is reordered
STAYS = 0.3e-4  # one that an op in blocks reads or writes: its neighbours mostly are in blocks too
LEAVES = 0.7e-4  # and one of an op between them that is not
TURNED = 1.8e-4  # one that a Transpose takes to its place
PASS = 6.0e-5  # an element that one op reads and writes
INDEXED = 3.0e-3  # an element under a MaxPool that is asked for positions, and of their scattering
NORMED = 6.0e-4  # one of a BatchNormalization that trains
SUMMED = 2.5e-4  # one that is summed with the others of its channel
