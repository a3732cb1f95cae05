/* SPDX-License-Identifier: MIT */
/*
 * The control socket, seen from the utility: one connection a question, a
 * deadline over all of it, and nothing believed that is not as in
 * tidegate_ctl.h.
 */
#include "ctl/ctl.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

struct client {
	struct ctl *c;
	int fd;
	uint64_t deadline_ns; /* CLOCK_BOOTTIME; UINT64_MAX: none */
	struct buf in;
};

static const char *op_name(enum tg_ctl_op op)
{
	static const char *const names[] = {
#define X(name, op, what) op,
		TG_CTL_OPS(X)
#undef X
	};

	return names[op];
}

/* -ENAMETOOLONG, or the errno of socket() or connect(). */
static int dial(const char *path, uint64_t timeout_ms)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct timeval tv = {.tv_sec = (time_t)(timeout_ms / 1000),
			     .tv_usec = (suseconds_t)(timeout_ms % 1000 * 1000)};
	int fd, rc;

	if (strlen(path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	memcpy(sun.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* connect() waits while the daemon's backlog is full, but not for ever. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		rc = -errno;
		(void)close(fd);
		return rc;
	}
	return fd;
}

int client_present(struct ctl *c)
{
	int fd = dial(client_path(c), c->timeout_ms);

	if (fd == -ENOENT || fd == -ECONNREFUSED || fd == -ENOTDIR)
		return 0;
	if (fd < 0)
		return fd;
	(void)close(fd);
	return 1;
}

static int said_no_daemon(struct ctl *c, int err)
{
	const char *path = client_path(c);

	switch (-err) {
	case ENOENT:
	case ENOTDIR:
	case ECONNREFUSED:
		return out_error(
			c, "no_daemon",
			"start it with `systemctl start tidegated`; targets can be switched "
			"without it, see `tidegate target help`",
			"tidegated is not running: nobody listens at %s", path);
	case EACCES:
	case EPERM:
		return out_error(
			c, "permission",
			"run this as root, or as a member of admin_group in the configuration",
			"no access to the control socket %s", path);
	case EAGAIN:
		return out_error(c, "no_daemon", "see the journal of tidegated",
				 "tidegated does not take the connection at %s", path);
	case ENAMETOOLONG:
		return out_error(c, "usage", NULL, "the path of the control socket is too long: %s",
				 path);
	default:
		return out_error(c, "no_daemon", NULL, "cannot connect to %s: %s", path,
				 strerror(-err));
	}
}

static int client_open(struct client *k, struct ctl *c)
{
	*k = (struct client){.c = c, .fd = -1};
	buf_init(&k->in, TG_CTL_MAX + 4);
	k->deadline_ns = clock_boot_ns() + c->timeout_ms * 1000000u;
	k->fd = dial(client_path(c), c->timeout_ms);
	return k->fd < 0 ? said_no_daemon(c, k->fd) : 0;
}

static void client_close(struct client *k)
{
	if (k->fd >= 0)
		(void)close(k->fd);
	buf_done(&k->in);
}

/* 0 when @events are there; -ETIMEDOUT at the deadline. */
static int wait_for(const struct client *k, short events)
{
	for (;;) {
		struct pollfd p = {.fd = k->fd, .events = events};
		uint64_t now = clock_boot_ns(), left;
		int timeout = -1, n;

		if (k->deadline_ns != UINT64_MAX) {
			if (now >= k->deadline_ns)
				return -ETIMEDOUT;
			left = (k->deadline_ns - now) / 1000000 + 1;
			timeout = left > 60000 ? 60000 : (int)left;
		}
		n = poll(&p, 1, timeout);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

static int send_all(struct client *k, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t sent = send(k->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		int rc;

		if (sent >= 0) {
			p += sent;
			n -= (size_t)sent;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		rc = wait_for(k, POLLOUT);
		if (rc)
			return rc;
	}
	return 0;
}

static int client_send(struct client *k, enum tg_ctl_op op, json_t *args)
{
	json_t *msg = json_pack("{s:i, s:s, s:o}", "v", TG_CTL_VERSION, "op", op_name(op), "args",
				args ? args : json_object());
	char *text = msg ? json_dumps(msg, JSON_COMPACT) : NULL;
	size_t n = text ? strlen(text) : 0;
	uint8_t head[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
	int rc = -ENOMEM;

	if (text && n > TG_CTL_MAX)
		rc = -EMSGSIZE;
	else if (text) {
		rc = send_all(k, head, sizeof(head));
		if (rc == 0)
			rc = send_all(k, (uint8_t *)text, n);
	}
	free(text);
	json_decref(msg);
	/* A daemon that closed early may have said why: the answer is read anyway. */
	return rc == -EPIPE || rc == -ECONNRESET ? 0 : rc;
}

/* Until @n bytes are there. -ENODATA: the daemon closed before the first. */
static int fill(struct client *k, size_t n)
{
	while (k->in.n < n) {
		uint8_t *p = buf_reserve(&k->in, n - k->in.n);
		ssize_t got;
		int rc;

		if (!p)
			return -ENOMEM;
		got = recv(k->fd, p, n - k->in.n, MSG_DONTWAIT);
		if (got > 0) {
			buf_commit(&k->in, (size_t)got);
			continue;
		}
		if (got == 0)
			return k->in.n ? -EPROTO : -ENODATA;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		rc = wait_for(k, POLLIN);
		if (rc)
			return rc;
	}
	return 0;
}

/* One message. -EPROTO: not one; what came so far is dropped with the connection. */
static int client_recv(struct client *k, json_t **ret)
{
	json_error_t err;
	const uint8_t *p;
	uint32_t n;
	int rc = fill(k, 4);

	if (rc)
		return rc;
	p = buf_data(&k->in);
	n = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
	if (n > TG_CTL_MAX)
		return -EPROTO;
	rc = fill(k, 4 + (size_t)n);
	if (rc)
		return rc == -ENODATA ? -EPROTO : rc;
	*ret = json_loadb((const char *)buf_data(&k->in) + 4, n,
			  JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &err);
	buf_consume(&k->in, 4 + (size_t)n);
	return *ret ? 0 : -EPROTO;
}

static int said_broken(struct ctl *c, int err)
{
	if (err == -ETIMEDOUT)
		return out_error(c, "no_daemon", "see the journal of tidegated",
				 "tidegated did not answer within %llu ms",
				 (unsigned long long)c->timeout_ms);
	if (err == -ENODATA || err == -ECONNRESET)
		return out_error(c, "no_daemon", "see the journal of tidegated",
				 "tidegated closed the connection without an answer");
	if (err == -EPROTO)
		return out_error(c, "bad_answer",
				 "is it a tidegated of the same version? see `tidegate version`",
				 "what listens at %s does not speak the control protocol",
				 client_path(c));
	return out_error(c, "failed", NULL, "the control socket failed: %s", strerror(-err));
}

static int said_error(struct ctl *c, const json_t *error)
{
	const char *code = json_string_value(json_object_get(error, "code"));
	const char *message = json_string_value(json_object_get(error, "message"));
	const char *hint = json_string_value(json_object_get(error, "hint"));

	if (!code || !message)
		return said_broken(c, -EPROTO);
	return out_error(c, code, hint, "%s", message);
}

/* Takes an answer apart. 0 and *ret (a new reference), or an exit code. */
static int open_answer(struct ctl *c, const json_t *answer, json_t **ret)
{
	const json_t *v = json_object_get(answer, "v"), *ok = json_object_get(answer, "ok");
	json_t *result = json_object_get(answer, "result");

	if (!json_is_integer(v) || !json_is_boolean(ok))
		return said_broken(c, -EPROTO);
	if (json_integer_value(v) != TG_CTL_VERSION)
		return out_error(c, "version", "install both from the same release",
				 "tidegated speaks version %lld of the control protocol, not %d",
				 (long long)json_integer_value(v), TG_CTL_VERSION);
	if (!json_is_true(ok))
		return said_error(c, json_object_get(answer, "error"));
	if (!result)
		return said_broken(c, -EPROTO);
	*ret = json_incref(result);
	return 0;
}

/* Lists are arrays, everything else is an object. */
static bool has_type(enum tg_ctl_op op, const json_t *result)
{
	static const char list[] = ".list";
	const char *name = op_name(op);
	size_t n = strlen(name), tail = sizeof(list) - 1;

	if (n > tail && strcmp(name + n - tail, list) == 0)
		return json_is_array(result);
	return json_is_object(result);
}

int client_call(struct ctl *c, enum tg_ctl_op op, json_t *args, json_t **ret)
{
	struct client k;
	json_t *answer = NULL, *result = NULL;
	int rc = client_open(&k, c);

	if (rc) {
		json_decref(args);
		client_close(&k);
		return rc;
	}
	rc = client_send(&k, op, args);
	if (rc == 0)
		rc = client_recv(&k, &answer);
	rc = rc ? said_broken(c, rc) : open_answer(c, answer, &result);
	if (rc == 0 && !has_type(op, result)) {
		json_decref(result);
		rc = said_broken(c, -EPROTO);
	}
	if (rc == 0)
		*ret = result;
	json_decref(answer);
	client_close(&k);
	return rc;
}

int client_follow(struct ctl *c, enum tg_ctl_op op, json_t *args,
		  int (*each)(struct ctl *c, const json_t *event))
{
	struct client k;
	int rc = client_open(&k, c);

	if (rc) {
		json_decref(args);
		client_close(&k);
		return rc;
	}
	rc = client_send(&k, op, args);
	if (rc) {
		rc = said_broken(c, rc);
		client_close(&k);
		return rc;
	}
	/* Events come when they come. */
	k.deadline_ns = UINT64_MAX;
	while (rc == 0) {
		json_t *answer = NULL, *event = NULL;

		rc = client_recv(&k, &answer);
		if (rc == -ENODATA)
			rc = out_error(c, "no_daemon", NULL, "tidegated ended the connection");
		else
			rc = rc ? said_broken(c, rc) : open_answer(c, answer, &event);
		if (rc == 0)
			rc = json_is_object(event) ? each(c, event) : said_broken(c, -EPROTO);
		if (rc == 0 && (fflush(stdout) || ferror(stdout)))
			rc = CTL_FAILED;
		json_decref(event);
		json_decref(answer);
	}
	client_close(&k);
	return rc;
}
