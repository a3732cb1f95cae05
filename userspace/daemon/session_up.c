/* SPDX-License-Identifier: MIT */
/* The server's leg: how it is opened, from which of a name's addresses, and where. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/address.h"
#include "daemon/session_rec.h"
#include "daemon/session_tls.h"

static int connect_unix(const char *path)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), e;

	if (fd < 0)
		return -errno;
	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0)
		return fd;
	e = errno;
	close(fd);
	return -e;
}

/* To a server of this host the handshake is over when connect() returns, whatever it says. */
static bool is_connected(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	return poll(&p, 1, 0) == 1 && p.revents == POLLOUT;
}

/* Takes over @fd; -1: a socket of this namespace is made. */
static int connect_to(int fd, const char *address, bool *ret_done)
{
	char first[ADDRESS_TEXT];
	struct sockaddr_storage ss;
	socklen_t len;
	int e = -EINVAL;

	/* The first of several. */
	(void)snprintf(first, sizeof(first), "%.*s", (int)strcspn(address, " "), address);
	if (address_parse(first, &ss, &len) == 0) {
		if (fd < 0)
			fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0)
			return -errno;
		e = connect(fd, (struct sockaddr *)&ss, len) ? -errno : 0;
		*ret_done = e == 0 || (e == -EINPROGRESS && is_connected(fd));
		if (e == 0 || e == -EINPROGRESS)
			return fd;
	}
	if (fd >= 0)
		close(fd);
	return e;
}

int upstream_open(const char *upstream, bool *ret_done)
{
	bool unused;

	if (!ret_done)
		ret_done = &unused;
	*ret_done = strncmp(upstream, "unix:", 5) == 0;
	if (*ret_done)
		return connect_unix(upstream + 5);
	return connect_to(-1, upstream, ret_done);
}

/*
 * Where the target is reached in the agent's network namespace there is no other way: nothing
 * that the agent calls by that address there may turn out to be something else here.
 */
static int open_leg(struct session *s, int which, bool *ret_done)
{
	int fd = s->upstream_fd[which];

	if (!s->in_netns)
		return s->steered && s->view->target->netns_agent
			       ? -ENETUNREACH
			       : upstream_open(s->upstream, ret_done);
	s->upstream_fd[which] = -1;
	return fd < 0 ? -ENETUNREACH : connect_to(fd, s->upstream, ret_done);
}

/* A name may have several addresses: the list begins with the one that is tried. */
static char *upstream_rest(const struct session *s)
{
	return strncmp(s->upstream, "unix:", 5) == 0 ? NULL : strchr(s->upstream, ' ');
}

static bool upstream_next(struct session *s)
{
	char *rest = upstream_rest(s);

	if (rest)
		memmove(s->upstream, rest + 1, strlen(rest));
	return rest != NULL;
}

/* This one it is: what is cancelled or looked up later goes there, too. */
static void upstream_settle(struct session *s)
{
	char *rest = upstream_rest(s);

	if (rest)
		*rest = '\0';
}

uint32_t session_candidates(const struct session *s)
{
	uint32_t n = 1;

	for (const char *c = upstream_rest(s); c; c = strchr(c + 1, ' '))
		n++;
	return n;
}

bool session_connect_next(struct session *s)
{
	struct leg *l = &s->leg[INSP_S2C];
	int fd = -1;
	bool done;

	while (fd < 0 && upstream_next(s))
		fd = upstream_open(s->upstream, &done);
	if (fd < 0)
		return false;
	/* The handle stays, and its descriptor: another socket takes its place. */
	leg_stop(s, INSP_S2C);
	if (dup3(fd, l->fd, O_CLOEXEC) < 0) {
		close(fd);
		return false;
	}
	close(fd);
	leg_options(l->fd);
	session_arm(s);
	leg_update(s);
	return true;
}

static void begin_run(struct session *s)
{
	s->state = SESSION_RUN;
	s->run_boot_ns = s->active_boot_ns = clock_boot_ns();
}

int session_connect(struct session *s)
{
	bool done;
	int fd = open_leg(s, 0, &done), rc;

	while (fd < 0 && upstream_next(s))
		fd = upstream_open(s->upstream, &done);
	if (fd < 0)
		return fd;
	if (done)
		upstream_settle(s);
	if (!worker_may_use(s->w, fd)) {
		close(fd);
		return -EMFILE;
	}
	done = done && !stls_wanted(s);
	rc = leg_open(s, INSP_S2C, fd, done);
	if (rc) {
		close(fd);
		return rc;
	}
	if (done)
		begin_run(s);
	else
		s->state = SESSION_CONNECT;
	return 0;
}

void session_running(struct session *s)
{
	s->leg[INSP_S2C].connected = true;
	begin_run(s);
	session_arm(s);
	session_flush(s, INSP_TO_SERVER);
}

void session_connected(struct session *s)
{
	struct leg *l = &s->leg[INSP_S2C];
	socklen_t len = sizeof(int);
	int e = 0;

	if (s->tls) {
		stls_go_on(s);
		return;
	}
	if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &e, &len) || e) {
		char words[160];

		if (session_connect_next(s))
			return;
		(void)snprintf(words, sizeof(words), "cannot connect to the target: %s",
			       strerror(e));
		session_end(s, TG_R_UPSTREAM_REFUSED, words);
		return;
	}
	upstream_settle(s);
	if (stls_wanted(s))
		stls_begin(s);
	else
		session_running(s);
}

void session_cancel_upstream(struct session *s)
{
	uint8_t msg[INSP_CANCEL_MAX];
	bool done;
	size_t n;
	int fd;

	if (!s->pid)
		return;
	n = s->insp->cancel(s->pid, s->key, msg);
	fd = open_leg(s, 1, &done);
	if (s->in_netns) {
		ipc_begin(s->w->ipc, IPC_SOCKET_ASK, 0);
		ipc_put_uuid(s->w->ipc, &s->uuid);
		ipc_send(s->w->ipc);
	}
	if (fd < 0)
		return;
	if (s->rec && !srec_cancel(s))
		s->fatal = TG_R_RECORD_FAILED;
	if (!done || stls_wanted(s)) {
		errand_send(s, fd, slice_of(msg, n));
		return;
	}
	(void)!send(fd, msg, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}
