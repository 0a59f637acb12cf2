// All kernels, in one compilation: native.py compiles this file once for each type, with -DT=float and -DT=double.
#include "kernels.h"
#include "convolution.c"
#include "winograd.c"
#include "batch_norm.c"
#include "pooling.c"
#include "elementwise.c"

KERNEL int vector(void) { return L; }          // numbers in a vector
KERNEL int panel(void) { return W; }           // outputs in a row of a register tile
