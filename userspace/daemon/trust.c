/* SPDX-License-Identifier: MIT */
#include "daemon/trust.h"

#include <unistd.h>

#include "base/log.h"
#include "config/cfgfiles.h"
#include "daemon/memfd.h"
#include "daemon/parent.h"

static void read_one(json_t *files, const struct cfg_target *t)
{
	const char *why;
	struct buf pem;

	if (!cfg_target_verified(t) || json_object_get(files, t->tls->ca_file))
		return;
	if (config_read_ca(t->tls->ca_file, &pem, &why)) {
		log_error("%s (ca_file of target %s) cannot be used: %s: the target is refused",
			  t->tls->ca_file, t->name, why);
		return;
	}
	(void)json_object_set_new(files, t->tls->ca_file,
				  json_stringn((const char *)buf_data(&pem), pem.n));
	buf_done(&pem);
}

void trust_read(struct parent *p)
{
	json_t *files = json_object();
	char *text;
	int fd = 0;

	for (uint32_t i = 0; i < p->cfg->ntargets; i++)
		read_one(files, &p->cfg->targets[i]);
	text = json_object_size(files) ? json_dumps(files, JSON_COMPACT) : NULL;
	if (text)
		fd = memfd_from("tidegate-trust", slice_str(text));
	if (fd < 0)
		log_error("what ca_file holds cannot be passed on: %s", strerror(-fd));
	free(text);
	json_decref(files);
	if (p->trust_fd > 0)
		(void)close(p->trust_fd);
	p->trust_fd = fd > 0 ? fd : 0;
}

void trust_send(struct child *c)
{
	if (c->p->trust_fd <= 0 || (c->role != ROLE_WORKER && c->role != ROLE_ROLED))
		return;
	ipc_begin(c->ipc, IPC_TRUST, 0);
	ipc_put_fd(c->ipc, c->p->trust_fd);
	ipc_send(c->ipc);
}
