/*
 * Takes memory on the first GPU and keeps it until it is killed: a process for
 * gpu-who to find.
 *
 *     hold-gpu MIB
 *
 * The driver's library is opened at run time, so that this is built where there
 * is none. Functions and types are those of CUDA's driver API (cuda.h).
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *find(void *library, const char *name)
{
	void *function = dlsym(library, name);

	if (!function) {
		fprintf(stderr, "hold-gpu: libcuda.so.1 has no %s\n", name);
		exit(1);
	}
	return function;
}

static void must(int result, const char *what)
{
	if (result != 0) {
		fprintf(stderr, "hold-gpu: %s: CUDA error %d\n", what, result);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 256;
	void *library = dlopen("libcuda.so.1", RTLD_NOW);
	void *context;
	unsigned long long memory;
	int device;

	if (!library) {
		fprintf(stderr, "hold-gpu: %s\n", dlerror());
		return 1;
	}
	must(((int (*)(unsigned int))find(library, "cuInit"))(0), "cuInit");
	must(((int (*)(int *, int))find(library, "cuDeviceGet"))(&device, 0), "cuDeviceGet");
	must(((int (*)(void **, int))find(library, "cuDevicePrimaryCtxRetain"))(&context, device), "cuDevicePrimaryCtxRetain");
	must(((int (*)(void *))find(library, "cuCtxSetCurrent"))(context), "cuCtxSetCurrent");
	must(((int (*)(unsigned long long *, size_t))find(library, "cuMemAlloc_v2"))(&memory, mib << 20), "cuMemAlloc");
	printf("holding %zu MiB\n", mib);
	fflush(stdout);
	pause();
	return 0;
}
