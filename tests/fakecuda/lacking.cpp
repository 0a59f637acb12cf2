// Functions of the runtime that CuPy refers to and the stand-in lacks: an error, and a count of calls.
#include "lacking.h"
LACKING(cudaDeviceEnablePeerAccess, 801) LACKING(cudaDeviceDisablePeerAccess, 801)
LACKING(cudaIpcCloseMemHandle, 801) LACKING(cudaIpcGetEventHandle, 801) LACKING(cudaIpcGetMemHandle, 801)
LACKING(cudaIpcOpenEventHandle, 801) LACKING(cudaIpcOpenMemHandle, 801) LACKING(cudaMalloc3DArray, 801)
LACKING(cudaMallocArray, 801) LACKING(cudaFreeArray, 801) LACKING(cudaMemcpy2DFromArray, 801)
LACKING(cudaMemcpy2DFromArrayAsync, 801) LACKING(cudaMemcpy2DToArray, 801) LACKING(cudaMemcpy2DToArrayAsync, 801)
LACKING(cudaMemcpy2D, 801) LACKING(cudaMemcpy2DAsync, 801) LACKING(cudaMemcpy3D, 801)
LACKING(cudaMemcpy3DAsync, 801) LACKING(cudaMemPrefetchAsync, 801) LACKING(cudaMemAdvise, 801)
LACKING(cudaDeviceSetMemPool, 801) LACKING(cudaMemPoolCreate, 801) LACKING(cudaMemPoolDestroy, 801)
LACKING(cudaMemPoolTrimTo, 801) LACKING(cudaMemPoolGetAttribute, 801) LACKING(cudaMemPoolSetAttribute, 801)
LACKING(cudaCreateTextureObject, 801) LACKING(cudaDestroyTextureObject, 801) LACKING(cudaGetChannelDesc, 801)
LACKING(cudaGetTextureObjectResourceDesc, 801) LACKING(cudaGetTextureObjectTextureDesc, 801)
LACKING(cudaCreateSurfaceObject, 801) LACKING(cudaDestroySurfaceObject, 801)
