/* SPDX-License-Identifier: MIT */
#include "daemon/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/hand.h"
#include "daemon/listeners.h"
#include "daemon/netns_scan.h"
#include "daemon/procfs.h"
#include "kern/kern.h"

enum { STACK = 256 * 1024, REFUSED_QUIET_S = 1, LO_GRACE_S = 2, LOG_EVERY_S = 60 };

/* The process by which a namespace is known to be in use: its end is an event. */
struct witness {
	uv_poll_t poll;
	struct netns_state *state;
	struct netns *ns; /* NULL: was let go */
	int pidfd;
	uint32_t pid;
};

struct netns {
	struct list link;
	uint64_t cookie;
	struct netns_id id;
	int fd;
	struct listener_set set;
	uint32_t agent; /* who was there first: it counts as his */
	struct witness *witness; /* NULL: nobody is known to be there */
	bool initial_owner;
	bool lo_checked;
	uint64_t since_boot_ns, since_wall_ns;
};

struct netns_state {
	struct parent *p;
	struct list list;
	struct netns_id own;
	uint64_t own_cookie;
	struct kern_events *events;
	uv_poll_t poll;
	bool look; /* at all agents' processes, at the next tick */
	uint64_t lost, logged_boot_ns;
};

/* ------------------------------------------------------- in another namespace */

struct run {
	int nsfd, rc;
	int (*fn)(void *ctx);
	void *ctx;
};

static void *run_thread(void *arg)
{
	struct run *r = arg;

	r->rc = setns(r->nsfd, CLONE_NEWNET) ? -errno : r->fn(r->ctx);
	return NULL;
}

/*
 * A namespace belongs to a thread and descriptors to the process, so a thread that ends
 * leaves nothing behind. The caller waits: nothing runs at the same time.
 */
int netns_run(int nsfd, int (*fn)(void *ctx), void *ctx)
{
	struct run r = {.nsfd = nsfd, .fn = fn, .ctx = ctx};
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t t;
	int rc;

	if (pthread_attr_init(&attr))
		return -ENOMEM;
	(void)pthread_attr_setstacksize(&attr, STACK);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&t, &attr, run_thread, &r);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)pthread_attr_destroy(&attr);
	if (rc)
		return -rc;
	(void)pthread_join(t, NULL);
	return r.rc;
}

static bool lo_is_up(int fd)
{
	struct ifreq ifr = {.ifr_name = "lo"};

	return ioctl(fd, SIOCGIFFLAGS, &ifr) == 0 && ifr.ifr_flags & IFF_UP;
}

static int raise_lo(int fd)
{
	struct ifreq ifr = {.ifr_name = "lo"};

	if (ioctl(fd, SIOCGIFFLAGS, &ifr))
		return -errno;
	ifr.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &ifr) ? -errno : 0;
}

struct opening_job {
	struct listener_set set;
	uint64_t cookie;
	bool raise;
	int raise_error;
};

static int open_here(void *ctx)
{
	struct opening_job *j = ctx;
	socklen_t n = sizeof(j->cookie);
	int rc = listener_set_open(&j->set);

	if (rc)
		return rc;
	if (getsockopt(j->set.tcp4, SOL_SOCKET, SO_NETNS_COOKIE, &j->cookie, &n)) {
		rc = -errno;
		listener_set_close(&j->set);
		return rc;
	}
	if (j->raise && !lo_is_up(j->set.tcp4))
		j->raise_error = raise_lo(j->set.tcp4);
	return 0;
}

/* An agent can be root in a user namespace that it made, and in what that one owns. */
static bool owned_initially(int nsfd)
{
	int fd = ioctl(nsfd, NS_GET_USERNS);
	struct stat own, owner;
	bool same;

	if (fd < 0)
		return false;
	same = fstat(fd, &owner) == 0 && stat("/proc/self/ns/user", &own) == 0 &&
	       own.st_ino == owner.st_ino && own.st_dev == owner.st_dev;
	close(fd);
	return same;
}

/* ------------------------------------------------------------------ witnesses */

static void witness_closed(uv_handle_t *h)
{
	struct witness *w = container_of((uv_poll_t *)h, struct witness, poll);

	close(w->pidfd);
	free(w);
}

static void witness_end(struct witness *w)
{
	if (w->ns)
		w->ns->witness = NULL;
	w->ns = NULL;
	uv_close((uv_handle_t *)&w->poll, witness_closed);
}

static void on_witness(uv_poll_t *h, int status, int events)
{
	struct witness *w = container_of(h, struct witness, poll);

	w->state->look = true;
	witness_end(w);
}

/* Takes over @pidfd. */
static int witness_set(struct netns_state *s, struct netns *ns, uint32_t pid, int pidfd)
{
	struct witness *w = calloc(1, sizeof(*w));

	if (!w || uv_poll_init(&s->p->loop, &w->poll, pidfd)) {
		free(w);
		close(pidfd);
		return -ENOMEM;
	}
	w->state = s;
	w->ns = ns;
	w->pid = pid;
	w->pidfd = pidfd;
	ns->witness = w;
	return uv_poll_start(&w->poll, UV_READABLE, on_witness);
}

/* ------------------------------------------------------------------ namespaces */

static struct netns *find(struct netns_state *s, const struct netns_id *id)
{
	list_each(it, &s->list) {
		struct netns *ns = container_of(it, struct netns, link);

		if (netns_id_same(&ns->id, id))
			return ns;
	}
	return NULL;
}

static uint32_t count_of(struct netns_state *s, uint32_t agent)
{
	uint32_t n = 0;

	list_each(it, &s->list)
		n += container_of(it, struct netns, link)->agent == agent;
	return n;
}

/* The same trouble again and again says nothing new; each is counted. */
static bool may_log(struct netns_state *s)
{
	uint64_t now = clock_boot_ns();

	if (s->logged_boot_ns && now - s->logged_boot_ns < LOG_EVERY_S * 1000000000ull)
		return false;
	s->logged_boot_ns = now;
	return true;
}

static void refuse(struct netns_state *s, uint16_t reason, const struct pagent *a, uint64_t cookie,
		   const char *detail)
{
	parent_count(s->p, reason);
	if (may_log(s))
		log_warning("agent %s: %s%s%s (more of these are only counted for a while)",
			    a->name, reason_what(reason), detail ? ": " : "", detail ? detail : "");
	if (cookie)
		(void)!kern_events_quiet(s->p->kern, cookie,
					 clock_boot_ns() + REFUSED_QUIET_S * 1000000000ull);
}

static void free_netns(struct netns *ns)
{
	if (ns->witness)
		witness_end(ns->witness);
	listener_set_close(&ns->set);
	if (ns->fd >= 0)
		close(ns->fd);
	free(ns);
}

static void tell_gone(struct child *c, uint64_t cookie)
{
	ipc_begin(c->ipc, IPC_LISTENER_GONE, 0);
	ipc_put_u64(c->ipc, cookie);
	ipc_send(c->ipc);
}

/* New connections are refused first; those that are open hold the namespace until they end. */
static void drop(struct netns_state *s, struct netns *ns)
{
	int rc = kern_listener_delete(s->p->kern, ns->cookie);

	if (rc && rc != -ENOENT)
		log_error("listeners of network namespace %llu stay in the map: %s",
			  (unsigned long long)ns->cookie, strerror(-rc));
	listener_set_forsake(s->p, ns->cookie);
	each_worker(s->p, c)
		tell_gone(c, ns->cookie);
	if (s->p->named.ipc && s->p->named.ready)
		tell_gone(&s->p->named, ns->cookie);
	log_info("network namespace %llu: no agent is left, listeners closed",
		 (unsigned long long)ns->cookie);
	list_del(&ns->link);
	free_netns(ns);
	s->look = true; /* somebody may have come in the meantime, while there was an entry */
}

static void give_all(struct netns_state *s, struct netns *ns)
{
	each_worker(s->p, c)
		listener_set_give(&ns->set, c, ns->cookie);
	if (s->p->named.ipc && s->p->named.ready)
		listener_set_give(&ns->set, &s->p->named, ns->cookie);
	listener_set_keep(s->p, &ns->set, ns->cookie);
}

static void announce(struct netns_state *s, struct netns *ns, const struct pagent *a)
{
	give_all(s, ns);
	log_info("network namespace %llu of agent %s (pid %u): listening on port %u",
		 (unsigned long long)ns->cookie, a->name, ns->witness->pid, ns->set.port);
}

/* Takes over @nsfd and @pidfd. */
static void make(struct netns_state *s, const struct pagent *a, const struct netns_id *id, int nsfd,
		 uint32_t pid, int pidfd)
{
	struct opening_job job = {.raise = s->p->cfg->netns_raise_lo};
	struct netns *ns = calloc(1, sizeof(*ns));
	int rc = ns ? netns_run(nsfd, open_here, &job) : -ENOMEM;

	if (rc) {
		refuse(s, TG_R_NETNS_FAILED, a, 0, strerror(-rc));
		close(nsfd);
		close(pidfd);
		free(ns);
		return;
	}
	*ns = (struct netns){.cookie = job.cookie,
			     .id = *id,
			     .fd = nsfd,
			     .set = job.set,
			     .agent = a->id,
			     .initial_owner = owned_initially(nsfd),
			     .since_boot_ns = clock_boot_ns(),
			     .since_wall_ns = clock_wall_ns()};
	rc = witness_set(s, ns, pid, pidfd);
	if (!rc)
		rc = listener_set_steer(s->p, &ns->set);
	if (rc) {
		(void)!kern_listener_delete(s->p->kern, ns->cookie);
		refuse(s, TG_R_NETNS_FAILED, a, ns->cookie, strerror(-rc));
		free_netns(ns);
		return;
	}
	list_add_tail(&s->list, &ns->link);
	announce(s, ns, a);
	if (job.raise_error)
		log_warning("network namespace %llu: cannot bring lo up: %s",
			    (unsigned long long)ns->cookie, strerror(-job.raise_error));
}

/*
 * A process of agent @a is in the namespace at @path of /proc. Takes over @pidfd, whose
 * process is alive after the namespace was opened: so it is that process's.
 */
static void found(struct netns_state *s, const struct pagent *a, uint32_t pid, const char *path,
		  int pidfd, uint64_t cookie)
{
	int nsfd = open(path, O_RDONLY | O_CLOEXEC);
	struct pollfd gone = {.fd = pidfd, .events = POLLIN};
	struct netns_id id = {0};
	struct netns *ns = NULL;
	bool known = true;

	if (nsfd >= 0 && poll(&gone, 1, 0) == 0 && netns_id_of(nsfd, &id) == 0) {
		ns = find(s, &id);
		known = ns || netns_id_same(&id, &s->own);
	}
	if (ns && !ns->witness) {
		if (witness_set(s, ns, pid, pidfd))
			s->look = true;
		pidfd = -1;
		ns->agent = ns->agent ? ns->agent : a->id;
	}
	if (!known && count_of(s, a->id) >= s->p->cfg->netns_max) {
		refuse(s, TG_R_NETNS_LIMIT, a, cookie, NULL);
	} else if (!known) {
		make(s, a, &id, nsfd, pid, pidfd);
		return;
	}
	if (nsfd >= 0)
		close(nsfd);
	if (pidfd >= 0)
		close(pidfd);
}

/* --------------------------------------------------------------------- events */

static void on_event(void *ctx, const struct tg_netns_event *ev)
{
	struct netns_state *s = ctx;
	const struct pagent *a;
	uint64_t started;
	char path[64];
	int pidfd;

	list_each(it, &s->list)
		if (container_of(it, struct netns, link)->cookie == ev->netns_cookie)
			return; /* was made after it was told */
	pidfd = (int)syscall(SYS_pidfd_open, ev->tgid, 0);
	if (pidfd < 0)
		return; /* gone: whoever is left there tells again */
	(void)snprintf(path, sizeof(path), "/proc/%u/task/%u/ns/net", ev->tgid, ev->tid);
	a = netns_scan_agent(s->p, ev->tgid);
	if (!a || !procfs_started(ev->tgid, &started) || started > ev->started_boot_ns ||
	    ev->started_boot_ns - started >= procfs_tick_ns()) {
		close(pidfd);
		return;
	}
	found(s, a, ev->tgid, path, pidfd, ev->netns_cookie);
}

static void on_events(uv_poll_t *h, int status, int events)
{
	struct netns_state *s = container_of(h, struct netns_state, poll);

	(void)kern_events_read(s->events); /* what is left wakes us again */
}

/* A process of an agent, found by looking. */
static void on_process(void *ctx, const struct pagent *a, uint32_t pid)
{
	struct netns_state *s = ctx;
	struct netns_id id;
	struct netns *ns;
	char path[64];
	int pidfd;

	(void)snprintf(path, sizeof(path), "/proc/%u/ns/net", pid);
	if (netns_id_at(path, &id) || netns_id_same(&id, &s->own))
		return;
	ns = find(s, &id);
	if (ns && ns->witness)
		return;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd >= 0)
		found(s, a, pid, path, pidfd, 0);
}

static void look(struct netns_state *s)
{
	s->look = false;
	netns_scan(s->p, on_process, s);
	list_each(it, &s->list) {
		struct netns *ns = container_of(it, struct netns, link);

		if (!ns->witness)
			drop(s, ns);
	}
}

/* ------------------------------------------- what the service manager has kept */

/* The namespace of a socket: who was there first is not known any more. */
static int take_kept_one(struct netns_state *s, uint64_t cookie)
{
	struct netns *ns = calloc(1, sizeof(*ns));
	int rc;

	if (!ns)
		return -ENOMEM;
	if (!listener_set_kept(s->p, cookie, &ns->set)) {
		free(ns);
		return 0;
	}
	ns->cookie = cookie;
	ns->fd = ioctl(ns->set.tcp4, SIOCGSKNS);
	rc = ns->fd < 0 ? -errno : netns_id_of(ns->fd, &ns->id);
	if (!rc && netns_id_same(&ns->id, &s->own))
		rc = -EEXIST;
	if (!rc)
		rc = listener_set_steer(s->p, &ns->set);
	if (rc) {
		listener_set_forsake(s->p, cookie);
		free_netns(ns);
		return rc;
	}
	ns->initial_owner = owned_initially(ns->fd);
	ns->since_boot_ns = clock_boot_ns();
	ns->since_wall_ns = clock_wall_ns();
	list_add_tail(&s->list, &ns->link);
	give_all(s, ns);
	return 0;
}

/* Before the first look, which ends those that no agent is in any more. */
static void take_kept(struct netns_state *s)
{
	uint64_t cookie;

	while (listener_set_next_kept(s->p, &cookie)) {
		int rc = take_kept_one(s, cookie);

		if (rc)
			log_warning("network namespace %llu: its listeners, which the service manager kept, "
				    "are not used: %s",
				    (unsigned long long)cookie, strerror(-rc));
	}
}

void netns_keep(struct parent *p)
{
	if (!p->netns)
		return;
	list_each(it, &p->netns->list) {
		struct netns *ns = container_of(it, struct netns, link);

		listener_set_keep(p, &ns->set, ns->cookie);
	}
}

/* ------------------------------------------------------------------- interface */

/* It is normal that lo comes up a little later than the first process. */
static void check_lo(struct netns_state *s, uint64_t now)
{
	list_each(it, &s->list) {
		struct netns *ns = container_of(it, struct netns, link);
		const struct pagent *a = agent_by_id(s->p, ns->agent);

		if (ns->lo_checked || now - ns->since_boot_ns < LO_GRACE_S * 1000000000ull)
			continue;
		ns->lo_checked = true;
		if (a && !lo_is_up(ns->set.tcp4))
			refuse(s, TG_R_NETNS_LO_DOWN, a, 0, NULL);
	}
}

void netns_tick(struct parent *p)
{
	struct netns_state *s = p->netns;
	uint64_t lost;

	if (!s)
		return;
	if (kern_events_lost(p->kern, &lost) == 0 && lost != s->lost) {
		s->lost = lost;
		s->look = true;
	}
	if (s->look)
		look(s);
	check_lo(s, clock_boot_ns());
}

void netns_reload(struct parent *p)
{
	if (!p->netns)
		return;
	/* Whoever is no agent any more does not keep a namespace. */
	list_each(it, &p->netns->list) {
		struct netns *ns = container_of(it, struct netns, link);

		if (ns->witness)
			witness_end(ns->witness);
	}
	p->netns->look = true;
}

static int forget_old(void *ctx, uint64_t cookie)
{
	struct netns_state *s = ctx;
	int rc;

	if (cookie == s->own_cookie)
		return 0;
	list_each(it, &s->list)
		if (container_of(it, struct netns, link)->cookie == cookie)
			return 0;
	rc = kern_listener_delete(s->p->kern, cookie);
	return rc == -ENOENT ? 0 : rc;
}

static struct netns_state *state_new(struct parent *p)
{
	struct netns_state *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->p = p;
	list_init(&s->list);
	return s;
}

int netns_start(struct parent *p)
{
	struct netns_state *s = p->netns ? p->netns : state_new(p);
	socklen_t n = sizeof(s->own_cookie);
	int rc;

	if (!s)
		return -ENOMEM;
	rc = netns_id_at("/proc/self/ns/net", &s->own);
	if (!rc && getsockopt(p->own.tcp4, SOL_SOCKET, SO_NETNS_COOKIE, &s->own_cookie, &n))
		rc = -errno;
	if (!rc)
		rc = kern_events_lost(p->kern, &s->lost);
	if (!rc)
		rc = kern_events_new(p->kern, on_event, s, &s->events);
	if (!rc)
		rc = uv_poll_init(&p->loop, &s->poll, kern_events_fd(s->events));
	if (!rc)
		rc = uv_poll_start(&s->poll, UV_READABLE, on_events);
	if (rc) {
		log_error("network namespaces cannot be watched: %s", strerror(-rc));
		kern_events_free(s->events);
		if (!p->netns)
			free(s);
		return rc;
	}
	p->netns = s;
	take_kept(s);
	look(s);
	/*
	 * Who lives in a namespace that an earlier run listened in has a listener again by now; the
	 * entries of the others are in the way of events. Who came there in the meantime is found
	 * at the next look.
	 */
	s->look = true;
	return kern_listener_each(p->kern, forget_old, s);
}

/* Entries stay, as that of the own namespace does: while it is down nobody binds the ports. */
void netns_stop(struct parent *p)
{
	if (!p->netns)
		return;
	(void)uv_poll_stop(&p->netns->poll);
	kern_events_free(p->netns->events);
	p->netns->events = NULL;
}

void netns_give(struct parent *p, struct child *c)
{
	if (!p->netns)
		return;
	list_each(it, &p->netns->list) {
		struct netns *ns = container_of(it, struct netns, link);

		listener_set_give(&ns->set, c, ns->cookie);
	}
}

size_t netns_fds(struct parent *p, size_t from, int *ret_fds, size_t max)
{
	size_t n = 0;

	if (!p->netns)
		return 0;
	list_each(it, &p->netns->list) {
		const struct netns *ns = container_of(it, struct netns, link);

		if (from) {
			from--;
			continue;
		}
		if (n == max)
			break;
		ret_fds[n] = fcntl(ns->fd, F_DUPFD_CLOEXEC, 3);
		if (ret_fds[n] >= 0)
			n++;
	}
	return n;
}

struct socket_job {
	int family, fd;
};

static int socket_here(void *ctx)
{
	struct socket_job *j = ctx;

	j->fd = socket(j->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return j->fd < 0 ? -errno : 0;
}

uint16_t netns_socket(struct parent *p, uint64_t cookie, int family, int *ret_fd)
{
	struct socket_job job = {.family = family};
	struct netns *ns = NULL;
	int rc;

	if (!p->netns)
		return TG_R_NETNS_FAILED;
	list_each(it, &p->netns->list)
		if (container_of(it, struct netns, link)->cookie == cookie)
			ns = container_of(it, struct netns, link);
	if (ns && !ns->initial_owner)
		return TG_R_NETNS_NOT_OURS;
	if (cookie == p->netns->own_cookie)
		rc = socket_here(&job);
	else
		rc = ns ? netns_run(ns->fd, socket_here, &job) : -ENOENT;
	if (rc)
		return TG_R_NETNS_FAILED;
	*ret_fd = job.fd;
	return TG_R_NONE;
}

json_t *netns_json(struct parent *p)
{
	json_t *list = json_array();

	if (!p->netns)
		return list;
	list_each(it, &p->netns->list) {
		struct netns *ns = container_of(it, struct netns, link);
		const struct pagent *a = agent_by_id(p, ns->agent);

		(void)json_array_append_new(
			list,
			json_pack("{s:I, s:s?, s:i, s:i, s:b, s:b}", "cookie",
				  (json_int_t)ns->cookie, "agent", a ? a->name : NULL, "pid",
				  ns->witness ? (int)ns->witness->pid : 0, "port",
				  (int)ns->set.port, "lo_up", lo_is_up(ns->set.tcp4),
				  "initial_owner", ns->initial_owner));
	}
	return list;
}

/* ---------------------------------------------------------------- upgrades */

static json_t *save_netns(struct hand *h, const struct netns *ns)
{
	json_t *o = listener_set_save(h, &ns->set);

	hand_put_u64(h, o, "cookie", ns->cookie);
	hand_put_u64(h, o, "dev", ns->id.dev);
	hand_put_u64(h, o, "ino", ns->id.ino);
	hand_put_fd(h, o, "fd", ns->fd);
	hand_put_u64(h, o, "agent", ns->agent);
	hand_put_bool(h, o, "initial_owner", ns->initial_owner);
	hand_put_u64(h, o, "since_boot", ns->since_boot_ns);
	hand_put_u64(h, o, "since", ns->since_wall_ns);
	hand_put_u64(h, o, "witness", ns->witness ? ns->witness->pid : 0);
	hand_put_fd(h, o, "pidfd", ns->witness ? ns->witness->pidfd : -1);
	return o;
}

void netns_save(struct parent *p, struct hand *h, json_t *root)
{
	json_t *list = json_array();

	if (p->netns)
		list_each(it, &p->netns->list)
			(void)json_array_append_new(
				list, save_netns(h, container_of(it, struct netns, link)));
	hand_put(h, root, "namespaces", list);
}

static void take_netns(struct netns_state *s, struct hand *h, const json_t *o)
{
	struct netns *ns = calloc(1, sizeof(*ns));
	uint32_t pid = (uint32_t)hand_u64(h, o, "witness");
	int pidfd = hand_fd(h, o, "pidfd"), rc = -ENOMEM;

	if (ns) {
		listener_set_take(h, o, &ns->set);
		ns->cookie = hand_u64(h, o, "cookie");
		ns->id.dev = (dev_t)hand_u64(h, o, "dev");
		ns->id.ino = (ino_t)hand_u64(h, o, "ino");
		ns->fd = hand_fd(h, o, "fd");
		ns->agent = (uint32_t)hand_u64(h, o, "agent");
		ns->initial_owner = hand_bool(h, o, "initial_owner");
		ns->since_boot_ns = hand_u64(h, o, "since_boot");
		ns->since_wall_ns = hand_u64(h, o, "since");
		list_add_tail(&s->list, &ns->link);
		rc = listener_set_steer(s->p, &ns->set);
		if (!rc && pidfd >= 0)
			rc = witness_set(s, ns, pid, pidfd);
	}
	if (rc)
		hand_fail(h, "namespace");
}

void netns_take(struct parent *p, struct hand *h, const json_t *root)
{
	json_t *o;
	size_t i;

	p->netns = state_new(p);
	if (!p->netns) {
		hand_fail(h, "namespaces");
		return;
	}
	json_array_foreach(hand_list(h, root, "namespaces"), i, o)
		take_netns(p->netns, h, o);
}
