/* SPDX-License-Identifier: MIT */
#include "daemon/fdstore.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "daemon/hand.h"
#include "daemon/sdnotify.h"

enum { FIRST_FD = 3 }; /* SD_LISTEN_FDS_START */

struct entry {
	char name[FDSTORE_NAME];
	int fd; /* of one that nobody has claimed; -1: in use */
};

struct fdstore {
	struct entry e[FDSTORE_MAX + 1]; /* the last one is room to read a name */
	size_t n;
	bool failed; /* said once */
};

static struct entry *find(struct fdstore *s, const char *name)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->e[i].name, name) == 0)
			return &s->e[i];
	return NULL;
}

static void forget(struct fdstore *s, struct entry *e)
{
	if (e->fd >= 0)
		close(e->fd);
	*e = s->e[--s->n];
}

static void tell_dropped(const char *name)
{
	sdnotify("FDSTOREREMOVE=1\nFDNAME=%s", name);
}

/* ------------------------------------------------------------- what was passed */

/* How many from FIRST_FD on are ours; those of another process are left alone. */
static size_t passed(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	uint64_t owner, n;

	if (!pid || !fds || text_parse_u64(slice_str(pid), 1, INT_MAX, &owner) ||
	    owner != (uint64_t)getpid() ||
	    text_parse_u64(slice_str(fds), 1, INT_MAX - FIRST_FD, &n))
		return 0;
	return (size_t)n;
}

/* Adds the one with the next name of the list, which has one for each. */
static void receive(struct fdstore *s, int fd, const char **names)
{
	size_t n = *names ? strcspn(*names, ":") : 0;
	struct entry *e = &s->e[s->n];

	if (fcntl(fd, F_SETFD, FD_CLOEXEC))
		return; /* no descriptor */
	(void)snprintf(e->name, sizeof(e->name), "%.*s", (int)n, *names ? *names : "");
	if (!n || n >= sizeof(e->name) || s->n == FDSTORE_MAX || find(s, e->name)) {
		log_warning("a descriptor of the service manager is not used: %s \"%.*s\"",
			    s->n == FDSTORE_MAX	   ? "too many, it is called"
			    : !n		   ? "it has no name"
			    : n >= sizeof(e->name) ? "no name of ours is as long as"
						   : "another one has its name too,",
			    (int)min_size(n, FDSTORE_NAME), *names ? *names : "");
		close(fd);
	} else {
		e->fd = fd;
		s->n++;
	}
	if (*names)
		*names = (*names)[n] ? *names + n + 1 : NULL;
}

struct fdstore *fdstore_new(void)
{
	struct fdstore *s = calloc(1, sizeof(*s));
	const char *names = getenv("LISTEN_FDNAMES");
	size_t n = passed();

	for (size_t i = 0; s && i < n; i++)
		receive(s, FIRST_FD + (int)i, &names);
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_FDNAMES");
	return s;
}

void fdstore_free(struct fdstore *s)
{
	for (size_t i = 0; s && i < s->n; i++)
		if (s->e[i].fd >= 0)
			close(s->e[i].fd);
	free(s);
}

int fdstore_claim(struct fdstore *s, const char *name)
{
	struct entry *e = s ? find(s, name) : NULL;
	int fd = e ? e->fd : -1;

	if (e)
		e->fd = -1;
	return fd;
}

const char *fdstore_next(const struct fdstore *s, const char *prefix, const char *after,
			 int *ret_fd)
{
	bool on = !after;

	for (size_t i = 0; s && i < s->n; i++) {
		const struct entry *e = &s->e[i];

		if (on && e->fd >= 0 && strncmp(e->name, prefix, strlen(prefix)) == 0) {
			*ret_fd = e->fd;
			return e->name;
		}
		on = on || strcmp(e->name, after) == 0;
	}
	return NULL;
}

void fdstore_refuse_rest(struct fdstore *s)
{
	for (size_t i = s ? s->n : 0; i > 0; i--) {
		struct entry *e = &s->e[i - 1];

		if (e->fd < 0)
			continue;
		log_notice("the service manager kept \"%s\", which nobody here needs: closed",
			   e->name);
		tell_dropped(e->name);
		forget(s, e);
	}
}

/* ------------------------------------------------------------ what is to be kept */

void fdstore_keep(struct fdstore *s, const char *name, int fd)
{
	int rc = -ENOSPC;

	if (!s || !sdnotify_there() || find(s, name))
		return;
	/* Without polling: a listening socket that had an error is still the one in the maps. */
	if (s->n < FDSTORE_MAX)
		rc = sdnotify_fd(fd, "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	if (rc == 0) {
		(void)snprintf(s->e[s->n].name, sizeof(s->e[s->n].name), "%s", name);
		s->e[s->n++].fd = -1;
	} else if (!s->failed) {
		s->failed = true;
		log_warning(
			"the service manager does not keep %s over a restart (%s): meanwhile its "
			"connections are refused",
			name, strerror(-rc));
	}
}

void fdstore_drop(struct fdstore *s, const char *name)
{
	struct entry *e = s ? find(s, name) : NULL;

	if (!e)
		return;
	tell_dropped(name);
	forget(s, e);
}

void fdstore_drop_all(struct fdstore *s)
{
	while (s && s->n) {
		tell_dropped(s->e[s->n - 1].name);
		forget(s, &s->e[s->n - 1]);
	}
}

/* ---------------------------------------------------------------- upgrades */

void fdstore_save(const struct fdstore *s, struct hand *h, json_t *root)
{
	json_t *list = json_array();

	for (size_t i = 0; s && i < s->n; i++)
		(void)json_array_append_new(list, json_string(s->e[i].name));
	hand_put(h, root, "kept", list);
}

void fdstore_take(struct fdstore *s, struct hand *h, const json_t *root)
{
	const json_t *name;
	size_t i;

	if (!s || !hand_has(root, "kept"))
		return; /* the binary before kept nothing */
	json_array_foreach(hand_list(h, root, "kept"), i, name)
	{
		const char *text = json_string_value(name);
		size_t n = json_string_length(name);

		if (!text || !n || n >= FDSTORE_NAME || s->n == FDSTORE_MAX) {
			hand_fail(h, "kept");
			return;
		}
		memcpy(s->e[s->n].name, text, n + 1);
		s->e[s->n++].fd = -1;
	}
}
