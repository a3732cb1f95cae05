/* SPDX-License-Identifier: MIT */
/* The entries. Each calls a function of lib/ and turns its answer into a verdict. */
#include "lib/compat.h"
#include "lib/create.h"
#include "lib/dns.h"
#include "lib/egress.h"
#include "lib/handover.h"
#include "lib/netns.h"
#include "lib/redirect.h"
#include "lib/sweep.h"
#include "lib/unix.h"
#include "lib/watch.h"

char tg_license[] SEC("license") = "Dual MIT/GPL";

SEC("cgroup/connect4")
int tg_connect4(struct bpf_sock_addr *ctx)
{
	return verdict(redirect_connect4(ctx));
}

SEC("cgroup/connect6")
int tg_connect6(struct bpf_sock_addr *ctx)
{
	return verdict(redirect_connect6(ctx));
}

SEC("cgroup/sendmsg4")
int tg_sendmsg4(struct bpf_sock_addr *ctx)
{
	return verdict(redirect_sendmsg4(ctx));
}

SEC("cgroup/sendmsg6")
int tg_sendmsg6(struct bpf_sock_addr *ctx)
{
	return verdict(redirect_sendmsg6(ctx));
}

/* libbpf before 1.3 does not know these two by name: user space says what they are. */
SEC("cgroup/connect_unix")
int tg_connect_unix(struct bpf_sock_addr *ctx)
{
	return verdict(unix_connect(ctx));
}

SEC("cgroup/sendmsg_unix")
int tg_sendmsg_unix(struct bpf_sock_addr *ctx)
{
	return verdict(unix_connect(ctx));
}

SEC("cgroup/recvmsg4")
int tg_recvmsg4(struct bpf_sock_addr *ctx)
{
	dns_source4(ctx);
	return 1;
}

SEC("cgroup/recvmsg6")
int tg_recvmsg6(struct bpf_sock_addr *ctx)
{
	dns_source6(ctx);
	return 1;
}

SEC("cgroup/getpeername4")
int tg_getpeer4(struct bpf_sock_addr *ctx)
{
	peername4(ctx);
	return 1;
}

SEC("cgroup/getpeername6")
int tg_getpeer6(struct bpf_sock_addr *ctx)
{
	peername6(ctx);
	return 1;
}

SEC("cgroup/sock_create")
int tg_sock_create(struct bpf_sock *ctx)
{
	return verdict(create_socket(ctx));
}

SEC("cgroup/post_bind4")
int tg_post_bind4(struct bpf_sock *ctx)
{
	return verdict(create_bound4(ctx));
}

SEC("cgroup/post_bind6")
int tg_post_bind6(struct bpf_sock *ctx)
{
	return verdict(create_bound6(ctx));
}

/* Leaves ctx->reply alone: it belongs to whoever tunes connections with this hook. */
SEC("sockops")
int tg_sock_ops(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		handover_active(ctx);
	else if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		handover_passive(ctx);
	return 1;
}

SEC("cgroup_skb/egress")
int tg_egress(struct __sk_buff *skb)
{
	return egress_cgroup(skb);
}

SEC("cgroup_skb/egress")
int tg_egress_uid(struct __sk_buff *skb)
{
	return egress_uid(skb);
}

SEC("sk_msg")
int tg_msg(struct sk_msg_md *msg)
{
	accel_msg(msg);
	return SK_PASS; /* always: the redirect helper's own answer would be an error to the sender */
}

SEC("raw_tp/cgroup_mkdir")
int tg_cgroup_mkdir(struct bpf_raw_tracepoint_args *ctx)
{
	return watch_mkdir((struct cgroup *)ctx->args[0], (const char *)ctx->args[1]);
}

/* Iterators: run by kern_sweep(). */
SEC("iter/task_file")
int tg_sweep_held(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;

	return task && file ? sweep_held(task, file) : 0;
}

SEC("iter/tcp")
int tg_sweep_tcp(struct bpf_iter__tcp *ctx)
{
	return sweep_tcp(ctx);
}

/* Raw tracepoints whose arguments the verifier knows: reading a task then takes no call. */
SEC("tp_btf/cgroup_attach_task")
int tg_cgroup_join(__u64 *args)
{
	return netns_task((struct task_struct *)args[2], TG_NETNS_JOINED);
}

SEC("tp_btf/sched_process_exec")
int tg_exec(__u64 *args)
{
	return netns_task((struct task_struct *)args[0], TG_NETNS_EXEC);
}

SEC("tp_btf/sched_process_fork")
int tg_fork(__u64 *args)
{
	return netns_task((struct task_struct *)args[1], TG_NETNS_FORK);
}
