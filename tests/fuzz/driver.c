/* SPDX-License-Identifier: MIT */
/*
 * Runs a fuzz target over files and folders without a fuzzing engine, each
 * input ending at an unmapped page so that one byte too far is a crash.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static int run_file(const char *path)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), room;
	struct stat st;
	uint8_t *map, *start;
	FILE *f = fopen(path, "rb");

	if (!f || fstat(fileno(f), &st)) {
		perror(path);
		return 1;
	}
	room = ((size_t)st.st_size + page - 1) / page * page;
	map = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED || mprotect(map + room, page, PROT_NONE)) {
		perror("mmap");
		return 1;
	}
	start = map + room - (size_t)st.st_size;
	if (fread(start, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
		perror(path);
		return 1;
	}
	(void)fclose(f);
	(void)LLVMFuzzerTestOneInput(start, (size_t)st.st_size);
	(void)munmap(map, room + page);
	return 0;
}

static int run(const char *path)
{
	char child[4096];
	struct dirent *e;
	struct stat st;
	int rc = 0;
	DIR *d;

	if (stat(path, &st)) {
		perror(path);
		return 1;
	}
	if (!S_ISDIR(st.st_mode))
		return run_file(path);
	d = opendir(path);
	if (!d) {
		perror(path);
		return 1;
	}
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(child, sizeof(child), "%s/%s", path, e->d_name);
		rc |= run(child);
	}
	(void)closedir(d);
	return rc;
}

int main(int argc, char **argv)
{
	int rc = 0;

	for (int i = 1; i < argc; i++)
		rc |= run(argv[i]);
	return rc;
}
