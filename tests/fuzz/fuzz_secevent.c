/* SPDX-License-Identifier: MIT */
/*
 * 'H': an HTTP request, whole and cut at each place that the second byte leads to: what is decided
 * on a part must be what is decided on all. 'J': the claims of an event.
 */
#include "base/compiler.h"
#include "ident/secevent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void request(struct slice in, size_t step)
{
	struct secevent_request whole, part;
	enum secevent_http all = secevent_request(in, &whole);

	BUG_ON((all == SECEVENT_REFUSED) != (whole.status != 0));
	if (all == SECEVENT_WHOLE)
		BUG_ON(whole.token.n > SECEVENT_BODY_MAX ||
		       (whole.token.n && (whole.token.p < in.p ||
					  whole.token.p + whole.token.n > in.p + in.n)));
	if (all == SECEVENT_WHOLE && whole.ping) {
		char id[SECEVENT_PING_MAX];

		BUG_ON(whole.bearer.n && (whole.bearer.p < in.p ||
					  whole.bearer.p + whole.bearer.n > in.p + in.n));
		BUG_ON(secevent_ping(&whole, id) && !id[0]);
	}
	for (size_t n = 0; n < in.n; n += step) {
		enum secevent_http some = secevent_request(slice_of(in.p, n), &part);

		if (some == SECEVENT_MORE)
			continue;
		BUG_ON(some != all || part.status != whole.status ||
		       part.token.n != whole.token.n || part.logout != whole.logout ||
		       part.ping != whole.ping || part.bearer.n != whole.bearer.n);
	}
}

static void claims(struct slice in)
{
	json_t *o = json_loadb((const char *)in.p, in.n, JSON_REJECT_DUPLICATES, NULL);
	struct secevent_error error = {NULL, NULL};
	struct secevent ev;

	if (!json_is_object(o)) {
		json_decref(o);
		return;
	}
	if (secevent_read(o, "https://idp.example", 1700000000, 30, &ev, &error)) {
		BUG_ON(!ev.kind[0] || !ev.jti[0] || strlen(ev.jti) >= sizeof(ev.jti));
		BUG_ON(ev.ends && !ev.subject[0] && !ev.session[0]);
		BUG_ON(json_object_get(o, "nonce"));
		BUG_ON(json_number_value(json_object_get(o, "iat")) < 1700000000 - 330);
	} else {
		BUG_ON(!error.code || !error.words || !error.words[0]);
	}
	json_decref(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	if (data[0] == 'H')
		request(slice_of(data + 2, size - 2), 1 + data[1] % 64);
	else if (data[0] == 'J')
		claims(slice_of(data + 1, size - 1));
	return 0;
}
