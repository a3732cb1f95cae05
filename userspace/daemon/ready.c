/* SPDX-License-Identifier: MIT */
#include "daemon/ready.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/hand.h"
#include "kern/kern.h"

union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(READY_MAX * sizeof(int))];
};

void ready_done(struct ready *r)
{
	for (size_t i = 0; i < r->n; i++)
		(void)close(r->fds[i]);
	r->n = 0;
}

static char *describe(const struct kern_progs *progs)
{
	json_t *names = json_array(), *o;
	char *text;

	for (size_t i = 0; i < progs->n; i++)
		(void)json_array_append_new(names, json_string(progs->p[i].name));
	o = json_pack("{s:I, s:s, s:o}", "refused", (json_int_t)progs->refused, "accel_why",
		      progs->accel_why, "names", names);
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	return text;
}

void ready_send(int fd, const struct kern_progs *progs)
{
	char *text = progs->n && progs->n <= READY_MAX ? describe(progs) : NULL;
	union control control = {0};
	static char line[] = "\n"; /* warnings may have been said before */
	struct iovec iov[] = {{line, 1}, {text, text ? strlen(text) : 0}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2, .msg_control = &control};
	int *fds = (int *)(void *)CMSG_DATA(&control.align);

	if (!text)
		return;
	m.msg_controllen = CMSG_SPACE(progs->n * sizeof(int));
	control.align = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
					 .cmsg_type = SCM_RIGHTS,
					 .cmsg_len = CMSG_LEN(progs->n * sizeof(int))};
	for (size_t i = 0; i < progs->n; i++)
		fds[i] = progs->p[i].fd;
	(void)!sendmsg(fd, &m, MSG_NOSIGNAL);
	free(text);
}

ssize_t ready_receive(int fd, struct ready *r, char *dst, size_t cap)
{
	union control control;
	struct iovec iov = {dst, cap};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);

	for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		const int *fds = (const int *)(const void *)CMSG_DATA(c);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			if (r->n < READY_MAX)
				r->fds[r->n++] = fds[i];
			else
				(void)close(fds[i]);
		}
	}
	return n;
}

void ready_save(struct hand *h, json_t *root, const struct ready *r, struct slice text)
{
	const uint8_t *last = text.n ? memrchr(text.p, '\n', text.n) : NULL;
	json_t *list;

	if (!r->n || !last)
		return;
	text = slice_from(text, (size_t)(last + 1 - text.p));
	list = json_array();
	for (size_t i = 0; i < r->n; i++) {
		json_t *o = json_object();

		hand_put_fd(h, o, "fd", r->fds[i]);
		(void)json_array_append_new(list, o);
	}
	hand_put(h, root, "ready", list);
	hand_put_slice(h, root, "ready_text", text);
}

static bool understand(struct kern_progs *ret, json_t *o, size_t n)
{
	const json_t *names = json_object_get(o, "names"), *refused = json_object_get(o, "refused");
	const char *why = json_string_value(json_object_get(o, "accel_why"));

	if (!json_is_integer(refused) || !why || strlen(why) >= sizeof(ret->accel_why) ||
	    json_array_size(names) != n)
		return false;
	ret->refused = (unsigned int)json_integer_value(refused);
	memcpy(ret->accel_why, why, strlen(why) + 1);
	for (size_t i = 0; i < n; i++) {
		const char *name = json_string_value(json_array_get(names, i));

		if (!name || strlen(name) >= KERN_PROG_NAME)
			return false;
		memcpy(ret->p[i].name, name, strlen(name) + 1);
	}
	return true;
}

void ready_take(struct hand *h, const json_t *root, struct kern_progs *ret)
{
	struct buf text;
	json_t *o;
	size_t i;

	ret->n = 0;
	if (!hand_has(root, "ready"))
		return;
	json_array_foreach(hand_list(h, root, "ready"), i, o)
	{
		int fd = hand_fd(h, o, "fd");

		if (fd >= 0 && ret->n < KERN_PROGS_MAX)
			ret->p[ret->n++].fd = fd;
	}
	buf_init(&text, 1 << 16);
	hand_buf(h, root, "ready_text", &text);
	o = json_loadb((const char *)buf_data(&text), text.n, JSON_REJECT_DUPLICATES, NULL);
	if (!o || !understand(ret, o, ret->n)) {
		log_warning("the programs that were loaded for the upgrade are loaded once more: "
			    "what was said "
			    "of them is not understood");
		kern_progs_close(ret);
	}
	json_decref(o);
	buf_done(&text);
}
