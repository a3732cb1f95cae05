/* SPDX-License-Identifier: MIT */
/* Loaded programs by name, on their way from one process to the next. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "kern/kern_priv.h"

int kern_progs_of(struct bpf_object *obj, struct kern_progs *ret)
{
	struct bpf_program *p;

	ret->n = 0;
	bpf_object__for_each_program(p, obj)
	{
		const char *name = bpf_program__name(p);

		if (bpf_program__fd(p) < 0)
			continue; /* not loaded: this kernel lacks its hook */
		if (ret->n == KERN_PROGS_MAX || strlen(name) >= KERN_PROG_NAME)
			return -E2BIG;
		(void)snprintf(ret->p[ret->n].name, KERN_PROG_NAME, "%s", name);
		ret->p[ret->n++].fd = bpf_program__fd(p);
	}
	return 0;
}

int kern_progs_dup(struct kern_progs *s)
{
	for (size_t i = 0; i < s->n; i++) {
		int fd = fcntl(s->p[i].fd, F_DUPFD_CLOEXEC, 3), e = errno;

		if (fd < 0) {
			s->n = i;
			kern_progs_close(s);
			return -e;
		}
		s->p[i].fd = fd;
	}
	return 0;
}

int kern_progs_fd(const struct kern_progs *s, const char *name)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->p[i].name, name) == 0)
			return s->p[i].fd;
	return -ENOENT;
}

void kern_progs_close(struct kern_progs *s)
{
	for (size_t i = 0; i < s->n; i++)
		(void)close(s->p[i].fd);
	s->n = 0;
}
