/* SPDX-License-Identifier: MIT */
#include "daemon/sdnotify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* A path, or an abstract name that begins with "@"; others are no local ones. */
static socklen_t address(struct sockaddr_un *sun)
{
	const char *name = getenv("NOTIFY_SOCKET");
	size_t n = name ? strlen(name) : 0;

	if (n < 2 || n >= sizeof(sun->sun_path) || (name[0] != '/' && name[0] != '@'))
		return 0;
	sun->sun_family = AF_UNIX;
	memcpy(sun->sun_path, name, n);
	if (name[0] == '@')
		sun->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

bool sdnotify_there(void)
{
	struct sockaddr_un sun;

	return address(&sun) != 0;
}

/* @passed -1: text alone, which does not wait. */
static int tell(const char *text, int passed)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct timeval second = {.tv_sec = 1};
	struct sockaddr_un sun = {0};
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
	struct msghdr m = {.msg_name = &sun, .msg_iov = &iov, .msg_iovlen = 1};
	int fd, rc;

	m.msg_namelen = address(&sun);
	if (!m.msg_namelen)
		return -ENOTCONN;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (passed >= 0) {
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		control.align = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
						 .cmsg_type = SCM_RIGHTS,
						 .cmsg_len = CMSG_LEN(sizeof(int))};
		memcpy(CMSG_DATA(&control.align), &passed, sizeof(passed));
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof(second));
	}
	rc = sendmsg(fd, &m, MSG_NOSIGNAL | (passed < 0 ? MSG_DONTWAIT : 0)) < 0 ? -errno : 0;
	(void)close(fd);
	return rc;
}

void sdnotify(const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* Who started us waits for it, and says so if it does not come. */
	(void)!tell(text, -1);
}

int sdnotify_fd(int fd, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return tell(text, fd);
}

void sdnotify_alive(void)
{
	if (getenv("WATCHDOG_USEC"))
		sdnotify("WATCHDOG=1");
}
