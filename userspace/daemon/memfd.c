/* SPDX-License-Identifier: MIT */
#include "daemon/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int memfd_shared(const char *name, size_t n)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), e;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)n) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)) {
		e = errno;
		close(fd);
		return -e;
	}
	return fd;
}

int memfd_from(const char *name, struct slice s)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), e;
	size_t off = 0;

	if (fd < 0)
		return -errno;
	while (off < s.n) {
		ssize_t n = write(fd, s.p + off, s.n - off);

		if (n < 0 && errno != EINTR) {
			e = errno;
			close(fd);
			return -e;
		}
		off += n > 0 ? (size_t)n : 0;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)) {
		e = errno;
		close(fd);
		return -e;
	}
	return fd;
}

int memfd_map(int fd, struct slice *ret)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st))
		return -errno;
	*ret = slice_of(NULL, 0);
	if (st.st_size == 0)
		return 0;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*ret = slice_of(p, (size_t)st.st_size);
	return 0;
}

void memfd_unmap(struct slice s)
{
	if (s.p)
		(void)munmap((void *)(uintptr_t)s.p, s.n);
}
