/* SPDX-License-Identifier: MIT */
/* Who is at the other end, as the kernel tells it. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <mntent.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/jsonw.h"
#include "base/text.h"
#include "daemon/address.h"
#include "daemon/alive.h"
#include "daemon/procfs.h"
#include "daemon/registry.h"
#include "daemon/parent.h"

static uint64_t ns(const struct statx_timestamp *t)
{
	return (uint64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

/* As the kernel has it cached: a file system of the agent's own is not asked, it may never answer. */
static void stat_exe(const char *path, struct exe_stat *ret)
{
	struct statx st;

	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &st))
		return;
	ret->dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	ret->inode = st.stx_ino;
	ret->size = st.stx_size;
	ret->mtime_ns = ns(&st.stx_mtime);
	ret->ctime_ns = ns(&st.stx_ctime);
}

/* What its process is now: it may have executed another program, or moved, since it was looked at last. */
static void read_process(struct psession *s)
{
	char path[64];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%u/exe", s->pid);
	n = readlink(path, s->exe, sizeof(s->exe) - 1);
	s->exe[n > 0 ? n : 0] = '\0';
	stat_exe(path, &s->exe_stat);
	(void)!procfs_cgroup(s->pid, s->cgroup, sizeof(s->cgroup));
	container_parse(s->cgroup, &s->container);
	container_image(&s->container);
}

int facts_read(struct psession *s, const struct tg_record *rec)
{
	int pidfd = -1;

	s->steered = true;
	s->pid = rec->tgid;
	s->uid = rec->uid;
	s->netns_cookie = rec->netns_cookie;
	(void)snprintf(s->comm, sizeof(s->comm), "%.*s", TG_COMM_LEN, rec->comm);
	if (!alive_started(rec->tgid, &s->started_boot_ns)) {
		pidfd = (int)syscall(SYS_pidfd_open, rec->tgid, 0);
		if (pidfd < 0 && errno != ESRCH)
			return -errno;
		s->gone = pidfd < 0 || !procfs_started(rec->tgid, &s->started_boot_ns);
	}
	/* Ticks are coarse: a hundredth of a second may lie between the two clocks. */
	if (!s->gone && s->started_boot_ns > rec->boot_ns + 20000000) {
		if (pidfd >= 0)
			close(pidfd);
		return -ESRCH;
	}
	if (!s->gone) {
		read_process(s);
		return alive_watch(s, pidfd);
	}
	if (pidfd >= 0)
		close(pidfd);
	return 0;
}

static void put_token(const struct psession *s, struct jsonw *j)
{
	jsonw_name(j, "token");
	jsonw_object(j);
	if (s->token_sha256[0])
		jsonw_kv_string(j, "sha256", s->token_sha256);
	if (s->token_why)
		jsonw_kv_string(j, "refused", s->token_why);
	if (s->token_claims) {
		jsonw_name(j, "claims");
		jsonw_members(j, slice_str(s->token_claims));
	}
	jsonw_object_end(j);
}

static void put_process(const struct psession *s, struct jsonw *j)
{
	jsonw_kv_bool(j, "process_gone", s->gone);
	jsonw_kv_u64(j, "pid", s->pid);
	jsonw_kv_string(j, "exe", s->exe);
	if (strlen(s->exe) + 1 == sizeof(s->exe))
		jsonw_kv_bool(j, "exe_cut", true);
	jsonw_kv_u64(j, "exe_inode", s->exe_stat.inode);
	if (s->exe_sha256[0])
		jsonw_kv_string(j, "exe_sha256", s->exe_sha256);
	jsonw_kv_u64(j, "started_boot_ns", s->started_boot_ns);
	jsonw_kv_string(j, "cgroup", s->cgroup);
	jsonw_kv_string(j, "container", s->container.id);
	jsonw_kv_string(j, "runtime", s->container.runtime);
	jsonw_kv_string(j, "pod", s->container.pod);
	jsonw_kv_string(j, "image", s->container.image);
	jsonw_kv_u64(j, "netns_cookie", s->netns_cookie);
}

void facts_json(const struct psession *s, struct buf *ret)
{
	struct jsonw j;

	jsonw_init(&j, ret, false);
	jsonw_object(&j);
	if (!s->steered)
		jsonw_kv_bool(&j, "gateway", true);
	jsonw_name(&j, "uid");
	jsonw_i64(&j, s->uid == (uint32_t)-1 ? -1 : (int64_t)s->uid);
	if (s->steered)
		put_process(s, &j);
	if (s->token_claims || s->token_why)
		put_token(s, &j);
	jsonw_object_end(&j);
	if (jsonw_end(&j))
		buf_reset(ret);
}

/* -------------------------------------------------------------- sock_diag */

struct owner {
	uint32_t uid;
	uint64_t cgroup;
};

static void fill_id(struct inet_diag_sockid *id, const struct sockaddr_storage *src,
		    const struct sockaddr_storage *dst)
{
	const struct sockaddr_storage *both[] = {src, dst};
	__be32 *addrs[] = {id->idiag_src, id->idiag_dst};
	__be16 *ports[] = {&id->idiag_sport, &id->idiag_dport};

	for (int i = 0; i < 2; i++) {
		if (both[i]->ss_family == AF_INET6) {
			const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)both[i];

			memcpy(addrs[i], &a->sin6_addr, 16);
			*ports[i] = a->sin6_port;
		} else {
			const struct sockaddr_in *a = (const struct sockaddr_in *)both[i];

			memcpy(addrs[i], &a->sin_addr, 4);
			*ports[i] = a->sin_port;
		}
	}
	id->idiag_cookie[0] = id->idiag_cookie[1] = INET_DIAG_NOCOOKIE;
}

static bool parse_answer(const uint8_t *p, size_t n, struct owner *ret)
{
	const struct nlmsghdr *h = (const void *)p;
	const struct inet_diag_msg *msg;
	const struct rtattr *attr;
	size_t left;

	if (n < sizeof(*h) || h->nlmsg_type != SOCK_DIAG_BY_FAMILY || h->nlmsg_len > n ||
	    h->nlmsg_len < NLMSG_LENGTH(sizeof(*msg)))
		return false;
	msg = NLMSG_DATA(h);
	ret->uid = msg->idiag_uid;
	ret->cgroup = 0;
	left = h->nlmsg_len - NLMSG_LENGTH(sizeof(*msg));
	for (attr = (const void *)(msg + 1); RTA_OK(attr, left); attr = RTA_NEXT(attr, left))
		if (attr->rta_type == INET_DIAG_CGROUP_ID &&
		    RTA_PAYLOAD(attr) >= sizeof(ret->cgroup))
			memcpy(&ret->cgroup, RTA_DATA(attr), sizeof(ret->cgroup));
	return true;
}

/* The other end of a loopback connection: its socket's uid and cgroup. */
static bool find_owner(const char *peer, const char *local, struct owner *ret)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 req;
	} q = {.h = {.nlmsg_len = sizeof(q),
		     .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		     .nlmsg_flags = NLM_F_REQUEST},
	       .req = {.sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u}};
	_Alignas(8) uint8_t answer[4096];
	struct sockaddr_storage src, dst;
	socklen_t len;
	bool found;
	ssize_t n;
	int fd;

	if (address_parse(peer, &src, &len) || address_parse(local, &dst, &len) ||
	    src.ss_family != dst.ss_family)
		return false;
	q.req.sdiag_family = (uint8_t)src.ss_family;
	fill_id(&q.req.id, &src, &dst);
	fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (fd < 0)
		return false;
	found = send(fd, &q, sizeof(q), 0) == (ssize_t)sizeof(q);
	n = found ? recv(fd, answer, sizeof(answer), 0) : -1;
	close(fd);
	return n > 0 && parse_answer(answer, (size_t)n, ret);
}

/* Mount point of cgroup v2, which may be one of several hierarchies. */
static bool cgroup_mount(char *dst, size_t cap)
{
	struct mntent entry, *m;
	char strings[4096];
	bool found = false;
	FILE *f = setmntent("/proc/self/mounts", "r");

	while (f && !found && (m = getmntent_r(f, &entry, strings, sizeof(strings)))) {
		found = strcmp(m->mnt_type, "cgroup2") == 0;
		if (found)
			(void)snprintf(dst, cap, "%s", m->mnt_dir);
	}
	if (f)
		(void)endmntent(f);
	return found;
}

/* A cgroup's id is the file handle of its directory: no walk is needed. */
static void cgroup_path_of(const char *root, uint64_t id, char *dst, size_t cap)
{
	union {
		struct file_handle h;
		uint8_t mem[sizeof(struct file_handle) + sizeof(uint64_t)];
	} u;
	char mount[256], link[64], path[512];
	int mfd, fd;
	ssize_t n;

	if (root)
		(void)snprintf(mount, sizeof(mount), "%s", root);
	else if (!cgroup_mount(mount, sizeof(mount)))
		return;
	mfd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mfd < 0)
		return;
	u.h.handle_bytes = sizeof(id);
	u.h.handle_type = 0xfe; /* FILEID_KERNFS */
	memcpy(u.h.f_handle, &id, sizeof(id));
	fd = open_by_handle_at(mfd, &u.h, O_PATH | O_CLOEXEC);
	close(mfd);
	if (fd < 0)
		return;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	close(fd);
	path[n > 0 ? n : 0] = '\0';
	if (n > 0 && strncmp(path, mount, strlen(mount)) == 0)
		(void)snprintf(dst, cap, "%s", path + strlen(mount));
}

static bool below(const char *path, const char *parent)
{
	size_t n = strlen(parent);

	return strncmp(path, parent, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static bool owned_by(const struct cfg_agent *a, const struct owner *o, const char *cgroup)
{
	for (uint32_t i = 0; i < a->nuids; i++)
		if (a->uids[i] == o->uid)
			return true;
	for (uint32_t i = 0; *cgroup && i < a->ncgroups; i++)
		if (below(cgroup, a->cgroups[i]))
			return true;
	return false;
}

struct pagent *facts_gateway_agent(struct parent *p, const char *peer, const char *local,
				   bool by_owner, uint32_t *ret_uid)
{
	struct sockaddr_storage src;
	char cgroup[512] = "";
	struct owner o = {.uid = (uint32_t)-1};
	uint8_t addr[16];
	socklen_t len;
	bool owned = by_owner && find_owner(peer, local, &o);

	if (address_parse(peer, &src, &len))
		return NULL;
	address_mapped((const struct sockaddr *)&src, addr);
	if (owned && o.cgroup)
		cgroup_path_of(p->cfg->cgroup_root, o.cgroup, cgroup, sizeof(cgroup));
	*ret_uid = o.uid;
	list_each(it, &p->agents) {
		struct pagent *a = container_of(it, struct pagent, link);

		if (!a->cfg)
			continue;
		if (owned && owned_by(a->cfg, &o, cgroup))
			return a;
		for (uint32_t i = 0; i < a->cfg->nsources; i++)
			if (address_in_cidr(a->cfg->sources[i], addr))
				return a;
	}
	return NULL;
}
