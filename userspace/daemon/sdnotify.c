/* SPDX-License-Identifier: MIT */
#include "daemon/sdnotify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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

void sdnotify(const char *fmt, ...)
{
	struct sockaddr_un sun = {0};
	socklen_t len = address(&sun);
	char text[256];
	va_list ap;
	int fd;

	if (!len)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	/* Who started us waits for it, and says so if it does not come. */
	(void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&sun, len);
	(void)close(fd);
}

void sdnotify_alive(void)
{
	if (getenv("WATCHDOG_USEC"))
		sdnotify("WATCHDOG=1");
}
