/* SPDX-License-Identifier: MIT */
/* The control socket: who may talk, framing, and clients that follow. See tidegate_ctl.h. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/adminsock.h"
#include "daemon/hand.h"
#include "daemon/registry.h"
#include "daemon/parent.h"
#include "daemon/upgrade.h"
#include "tidegate_ctl.h"

enum { CLIENTS_MAX = 256, OUT_MAX = 64 << 20 };

struct ctl_client {
	struct list link;
	struct parent *p;
	uv_poll_t poll;
	int fd;
	uint32_t uid;
	bool allowed, following, closing, eof;
	char follow[UUID_TEXT]; /* empty: all */
	uint64_t wait_id;	/* of a worker's answer */
	bool wait_upgrade;
	json_t *wait_base;
	struct buf in, out;
};

static uv_poll_t control_poll;

static void on_client(uv_poll_t *h, int status, int events);

static void client_closed(uv_handle_t *h)
{
	struct ctl_client *c = container_of((uv_poll_t *)h, struct ctl_client, poll);

	close(c->fd);
	buf_done(&c->in);
	buf_done(&c->out);
	json_decref(c->wait_base);
	free(c);
}

static void set_following(struct parent *p, int change)
{
	bool before = p->followers != 0;

	p->followers += (uint32_t)change;
	if (before == (p->followers != 0))
		return;
	each_worker(p, w)
	{
		ipc_begin(w->ipc, IPC_FOLLOW, 0);
		ipc_put_u32(w->ipc, p->followers != 0);
		ipc_send(w->ipc);
	}
}

static void client_close(struct ctl_client *c)
{
	if (c->closing)
		return;
	c->closing = true;
	if (c->following)
		set_following(c->p, -1);
	list_del(&c->link);
	uv_close((uv_handle_t *)&c->poll, client_closed);
}

static void client_watch(struct ctl_client *c)
{
	int events = (c->eof ? 0 : UV_READABLE) | (c->out.n ? UV_WRITABLE : 0);

	if (!c->closing && events)
		(void)uv_poll_start(&c->poll, events, on_client);
}

static void client_flush(struct ctl_client *c)
{
	while (c->out.n) {
		ssize_t n = send(c->fd, buf_data(&c->out), c->out.n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0) {
			client_close(c);
			return;
		}
		buf_consume(&c->out, (size_t)n);
	}
	client_watch(c);
}

/* Takes over @answer. */
static void client_send(struct ctl_client *c, json_t *answer)
{
	char *text = json_dumps(answer, JSON_COMPACT);
	size_t n = text ? strlen(text) : 0;
	uint8_t head[4];

	json_decref(answer);
	if (!text || c->closing) {
		free(text);
		return;
	}
	if (n > TG_CTL_MAX) {
		free(text);
		text = strdup("{\"v\":1,\"ok\":false,\"error\":{\"code\":\"too_large\",\"message\":\"the "
			      "answer is too large\",\"hint\":\"ask for less\"}}");
		n = text ? strlen(text) : 0;
	}
	for (int i = 0; i < 4; i++)
		head[i] = (uint8_t)(n >> (8 * i));
	/* One that follows but does not read loses its connection, not our memory. */
	if (!text || buf_append(&c->out, head, 4) || buf_append(&c->out, text, n))
		client_close(c);
	free(text);
	if (!c->closing)
		client_flush(c);
}

static json_t *ok_answer(json_t *result)
{
	return json_pack("{s:i, s:b, s:o}", "v", TG_CTL_VERSION, "ok", 1, "result", result);
}

static json_t *error_answer(const struct ctl_error *e)
{
	return json_pack("{s:i, s:b, s:{s:s, s:s, s:s}}", "v", TG_CTL_VERSION, "ok", 0, "error",
			 "code", e->code, "message", e->message, "hint", e->hint);
}

static void client_fail(struct ctl_client *c, const char *code, const char *message)
{
	struct ctl_error e = {.code = code};

	(void)snprintf(e.message, sizeof(e.message), "%s", message);
	client_send(c, error_answer(&e));
}

static void handle(struct ctl_client *c, struct slice text)
{
	struct ctl_error e = {.code = "failed"};
	json_error_t je;
	json_t *req = json_loadb((const char *)text.p, text.n, JSON_REJECT_DUPLICATES, &je);
	json_t *args, *result, *none = json_object();
	const char *op = NULL;
	bool later = false;
	int v = 0;

	args = req ? json_object_get(req, "args") : NULL;
	if (!req || json_unpack(req, "{s:i, s:s}", "v", &v, "op", &op) ||
	    (args && !json_is_object(args))) {
		client_fail(c, "bad_request", "a request is an object with v, op and args");
	} else if (v != TG_CTL_VERSION) {
		client_fail(c, "version", "the daemon speaks another version of the protocol");
	} else if (!c->allowed) {
		client_fail(c, "permission", "only root and members of admin_group may do this");
	} else {
		result = control_run(c->p, c, op, args ? args : none, c->uid, &e, &later);
		if (!later)
			client_send(c, result ? ok_answer(result) : error_answer(&e));
	}
	json_decref(none);
	json_decref(req);
}

static void client_read(struct ctl_client *c)
{
	uint8_t *dst = buf_reserve(&c->in, 65536);
	ssize_t n = dst ? recv(c->fd, dst, 65536, MSG_DONTWAIT) : 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		/* Its last answer may still be on the way to it. */
		c->eof = true;
		if (!c->out.n || n < 0)
			client_close(c);
		return;
	}
	buf_commit(&c->in, (size_t)n);
	while (!c->closing && c->in.n >= 4) {
		const uint8_t *p = buf_data(&c->in);
		size_t len = (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;

		if (len > TG_CTL_MAX) {
			client_close(c);
			return;
		}
		if (c->in.n - 4 < len)
			return;
		handle(c, slice_of(p + 4, len));
		buf_consume(&c->in, 4 + len);
	}
}

static void on_client(uv_poll_t *h, int status, int events)
{
	struct ctl_client *c = container_of(h, struct ctl_client, poll);

	if (status < 0) {
		client_close(c);
		return;
	}
	if (events & UV_WRITABLE)
		client_flush(c);
	if (!c->closing && c->eof && !c->out.n)
		client_close(c);
	if (!c->closing && (events & UV_READABLE))
		client_read(c);
	client_watch(c);
}

static struct ctl_client *client_new(struct parent *p, int fd)
{
	struct ctl_client *c = calloc(1, sizeof(*c));

	if (!c || uv_poll_init(&p->loop, &c->poll, fd)) {
		free(c);
		return NULL;
	}
	c->p = p;
	c->fd = fd;
	buf_init(&c->in, TG_CTL_MAX + 65540);
	buf_init(&c->out, OUT_MAX);
	list_add_tail(&p->clients, &c->link);
	return c;
}

static bool may_use(const struct parent *p, const struct ucred *cred)
{
	const struct group *want = p->cfg->admin_group ? getgrnam(p->cfg->admin_group) : NULL;
	const struct passwd *pw;
	gid_t groups[256], gid = want ? want->gr_gid : (gid_t)-1;
	int n = ARRAY_SIZE(groups);

	if (cred->uid == 0)
		return true;
	if (!want)
		return false;
	pw = getpwuid(cred->uid);
	if (!pw || getgrouplist(pw->pw_name, pw->pw_gid, groups, &n) < 0)
		return cred->gid == gid;
	for (int i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

static void on_control(uv_poll_t *h, int status, int events)
{
	struct parent *p = h->data;
	int fd = accept4(p->control_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct ctl_client *c;
	uint32_t n = 0;

	list_each(it, &p->clients)
		n++;
	if (fd < 0)
		return;
	c = n < CLIENTS_MAX && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0
		    ? client_new(p, fd)
		    : NULL;
	if (!c) {
		close(fd);
		return;
	}
	c->uid = cred.uid;
	c->allowed = may_use(p, &cred);
	client_watch(c);
}

void ctl_client_follow(struct ctl_client *c, const char *session)
{
	if (!c->following)
		set_following(c->p, 1);
	c->following = true;
	(void)snprintf(c->follow, sizeof(c->follow), "%s", session ? session : "");
}

void control_event(struct parent *p, struct slice json)
{
	json_t *ev = json_loadb((const char *)json.p, json.n, 0, NULL);
	const char *session = ev ? json_string_value(json_object_get(ev, "session")) : NULL;

	list_each(it, &p->clients) {
		struct ctl_client *c = container_of(it, struct ctl_client, link);

		if (ev && c->following &&
		    (!c->follow[0] || (session && strcmp(session, c->follow) == 0)))
			client_send(c, ok_answer(json_incref(ev)));
	}
	json_decref(ev);
}

void ctl_client_wait(struct ctl_client *c, uint64_t id, struct psession *s)
{
	json_decref(c->wait_base);
	c->wait_base = json_object();
	registry_json(s, c->wait_base);
	c->wait_id = id;
}

void control_session_shown(struct parent *p, uint64_t id, struct slice json)
{
	list_each(it, &p->clients) {
		struct ctl_client *c = container_of(it, struct ctl_client, link);
		json_t *inner;

		if (!c->wait_id || c->wait_id != id)
			continue;
		c->wait_id = 0;
		inner = json_loadb((const char *)json.p, json.n, 0, NULL);
		(void)json_object_set_new(c->wait_base, "live", inner ? inner : json_null());
		client_send(c, ok_answer(c->wait_base));
		c->wait_base = NULL;
	}
}

void ctl_client_wait_upgrade(struct ctl_client *c)
{
	c->wait_upgrade = true;
}

void control_upgraded(struct parent *p, json_t *o, const struct ctl_error *e)
{
	list_each(it, &p->clients) {
		struct ctl_client *c = container_of(it, struct ctl_client, link);

		if (!c->wait_upgrade)
			continue;
		c->wait_upgrade = false;
		client_send(c, o ? ok_answer(json_incref(o)) : error_answer(e));
	}
	json_decref(o);
}

static int listen_unix(const char *path, mode_t mode, const char *group)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	const struct group *g = group ? getgrnam(group) : NULL;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), e;
	mode_t old;

	if (fd < 0)
		return -errno;
	if ((size_t)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path) >=
	    sizeof(sun.sun_path)) {
		close(fd);
		return -ENAMETOOLONG;
	}
	(void)unlink(path);
	old = umask(0777 & ~mode);
	if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) || listen(fd, 64)) {
		e = errno;
		(void)umask(old);
		close(fd);
		return -e;
	}
	(void)umask(old);
	if (g && chown(path, 0, g->gr_gid))
		log_warning("%s: %s", path, strerror(errno));
	return fd;
}

int control_listen(const char *dir, const char *name, mode_t mode, const char *group)
{
	char path[512];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = listen_unix(path, mode, group);
	if (fd < 0)
		log_error("%s: %s", path, strerror(-fd));
	return fd;
}

mode_t control_mode(const struct config *c)
{
	return c->admin_group ? 0660 : 0600;
}

static int watch(struct parent *p)
{
	control_poll.data = p;
	if (uv_poll_init(&p->loop, &control_poll, p->control_fd))
		return -ENOMEM;
	return uv_poll_start(&control_poll, UV_READABLE, on_control);
}

int control_start(struct parent *p)
{
	list_init(&p->clients);
	p->control_fd = control_listen(p->cfg->run_dir, TG_CTL_SOCKET, control_mode(p->cfg),
				       p->cfg->admin_group);
	if (p->control_fd < 0)
		return p->control_fd;
	return watch(p);
}

void control_stop(struct parent *p)
{
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s", p->cfg->run_dir, TG_CTL_SOCKET);
	(void)unlink(path);
	(void)snprintf(path, sizeof(path), "%s/%s", p->cfg->run_dir, TG_CTL_METRICS);
	(void)unlink(path);
}

/* ----------------------------------------------------------------- reloads */

void control_use(struct parent *p, int fd)
{
	(void)uv_poll_stop(&control_poll);
	(void)dup3(fd, p->control_fd, O_CLOEXEC);
	close(fd);
	(void)uv_poll_start(&control_poll, UV_READABLE, on_control);
}

void control_recheck(struct parent *p)
{
	list_each(it, &p->clients) {
		struct ctl_client *c = container_of(it, struct ctl_client, link);
		struct ucred cred;
		socklen_t len = sizeof(cred);

		/* Whose request this is gets its answer. */
		if (c->allowed && (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) ||
				   !may_use(p, &cred))) {
			c->allowed = false;
			if (c->following)
				client_close(c);
		}
	}
}

/* ---------------------------------------------------------------- upgrades */

static json_t *save_client(struct hand *h, const struct ctl_client *c)
{
	json_t *o = json_object();

	hand_put_fd(h, o, "fd", c->fd);
	hand_put_u64(h, o, "uid", c->uid);
	hand_put_bool(h, o, "allowed", c->allowed);
	hand_put_bool(h, o, "following", c->following);
	hand_put_bool(h, o, "eof", c->eof);
	hand_put_str(h, o, "follow", c->follow);
	hand_put_u64(h, o, "wait_id", c->wait_id);
	hand_put_bool(h, o, "wait_upgrade", c->wait_upgrade);
	if (c->wait_base)
		hand_put(h, o, "wait_base", json_incref(c->wait_base));
	hand_put_slice(h, o, "in", buf_slice(&c->in));
	hand_put_slice(h, o, "out", buf_slice(&c->out));
	return o;
}

void control_save(struct parent *p, struct hand *h, json_t *root)
{
	json_t *o = json_object(), *list = json_array();

	hand_put_fd(h, o, "fd", p->control_fd);
	list_each(it, &p->clients)
		(void)json_array_append_new(
			list, save_client(h, container_of(it, struct ctl_client, link)));
	hand_put(h, o, "clients", list);
	hand_put(h, root, "control", o);
}

static void take_client(struct parent *p, struct hand *h, const json_t *o)
{
	int fd = hand_fd(h, o, "fd");
	struct ctl_client *c = fd < 0 ? NULL : client_new(p, fd);

	if (!c) {
		hand_fail(h, "client");
		return;
	}
	c->uid = (uint32_t)hand_u64(h, o, "uid");
	c->allowed = hand_bool(h, o, "allowed");
	c->following = hand_bool(h, o, "following");
	c->eof = hand_bool(h, o, "eof");
	hand_str(h, o, "follow", c->follow, sizeof(c->follow));
	c->wait_id = hand_u64(h, o, "wait_id");
	c->wait_upgrade = hand_bool(h, o, "wait_upgrade");
	c->wait_base = json_incref(json_object_get(o, "wait_base"));
	hand_buf(h, o, "in", &c->in);
	hand_buf(h, o, "out", &c->out);
	p->followers += c->following;
	client_watch(c);
}

int control_take(struct parent *p, struct hand *h, const json_t *root)
{
	const json_t *o = json_object_get(root, "control");
	json_t *one;
	size_t i;

	list_init(&p->clients);
	p->control_fd = hand_fd(h, o, "fd");
	if (p->control_fd < 0)
		return -EBADF;
	json_array_foreach(hand_list(h, o, "clients"), i, one)
		take_client(p, h, one);
	return watch(p);
}
