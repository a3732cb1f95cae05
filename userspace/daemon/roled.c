/* SPDX-License-Identifier: MIT */
#include "daemon/roled.h"

#include <jansson.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/childconf.h"
#include "daemon/sandbox.h"

/* Tasks look their credential up by name each time: nothing points into the old one. */
static void take_config(struct roled *o, struct ipc_msg *m)
{
	struct config *old = o->cfg;
	int fd, err;

	(void)ipc_get_u64(m); /* the generation */
	fd = ipc_get_fd(m);
	if (!ipc_end(m) || fd < 0) {
		m->bad = true;
		return;
	}
	o->cfg = childconf_take(fd);
	trust_free(o->trust);
	o->trust = o->next;
	o->next = NULL;
	config_free(old);
	if (old)
		return;
	/* What these read from files is out of reach soon. */
	json_object_seed(0);
	if (tls_init())
		log_error("OpenSSL cannot be used for TLS with targets: those are refused");
	err = sandbox_roled();
	if (err) {
		log_error("the sandbox cannot be set up: %s", strerror(-err));
		exit(1);
	}
	ipc_begin(o->ipc, IPC_READY, 0);
	ipc_send(o->ipc);
}

static void take_trust(struct roled *o, struct ipc_msg *m)
{
	int fd = ipc_get_fd(m);

	if (!ipc_end(m) || fd < 0) {
		m->bad = true;
		return;
	}
	trust_free(o->next);
	o->next = trust_take(fd);
}

static void on_message(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct roled *o = ctx;

	switch (m->type) {
	case IPC_INIT:
	case IPC_DRAIN: /* it ends with the parent */
		break;
	case IPC_TRUST:
		take_trust(o, m);
		break;
	case IPC_CONFIG:
		take_config(o, m);
		break;
	case IPC_ROLE_JOB:
		roled_take(o, m);
		break;
	case IPC_KEY_GONE:
		roled_key_gone(o);
		break;
	case IPC_KEY_LOGIN:
	case IPC_KEY_PASSWORD:
	case IPC_KEY_MD5:
	case IPC_KEY_SCRAM:
		roled_key(o, m);
		break;
	default:
		m->bad = true;
	}
}

int roled_main(void)
{
	static const struct ipc_ops ops = {.message = on_message, .closed = ipc_parent_gone};
	static struct roled o;

	list_init(&o.jobs);
	BUG_ON(uv_loop_init(&o.loop));
	BUG_ON(ipc_new(&o.loop, IPC_CHILD_FD, &ops, &o, &o.ipc));
	(void)uv_run(&o.loop, UV_RUN_DEFAULT);
	return 0;
}
