/* SPDX-License-Identifier: MIT */
/* Of the configuration: the identity provider, and the ways of asking it and others. */
#ifndef TIDEGATE_CONFIG_CFGIDP_H
#define TIDEGATE_CONFIG_CFGIDP_H

#include <stdbool.h>
#include <stdint.h>

enum idp_auth {
	IDP_AUTH_SECRET_BASIC,
	IDP_AUTH_SECRET_POST,
	IDP_AUTH_PRIVATE_KEY_JWT,
	IDP_AUTH_TLS, /* RFC 8705, with a certificate of an authority, or of its own: */
	IDP_AUTH_TLS_SELF_SIGNED,
};

static inline bool idp_auth_is_tls(enum idp_auth auth)
{
	return auth == IDP_AUTH_TLS || auth == IDP_AUTH_TLS_SELF_SIGNED;
}

enum idp_dpop { IDP_DPOP_AUTO, IDP_DPOP_ON, IDP_DPOP_OFF };
enum idp_name { IDP_NAME_TOKEN, IDP_NAME_USERINFO, IDP_NAME_INTROSPECTION };

struct cfg_idp {
	const char *issuer;
	const char *client_id;
	enum idp_auth auth;
	const char *secret_file; /* read by keyd only */
	const char *key_file;	 /* PEM, private_key_jwt and TLS; read by keyd only */
	const char *certificate_file; /* PEM, TLS; read by keyd, which tells it */
	const char *key_alg;	 /* "ES256", "PS256", "RS256" */
	const char *key_id;	 /* kid, or NULL */
	const char *audience;	 /* expected `aud` of tokens; NULL: client_id */
	const char *resource;	 /* RFC 8707 resource parameter, or NULL */
	const char *details_type; /* of authorization_details that name the agent, or NULL */
	const char *ca_file;	 /* NULL: the system's */
	const char *const *extra_origins; /* of endpoints besides the issuer's; NULL-terminated or NULL */
	const char *assertion_audience; /* of client assertions; NULL: the token endpoint; "endpoint": the one that is called */
	const char *const *algorithms; /* allow-list for token signatures, NULL-terminated */
	const char *events; /* address on which the provider's events are taken, or NULL */
	const char *events_audience; /* expected `aud` of events; NULL: client_id */
	bool introspect_bearer;	      /* introspection shows a token that is got for that, not the client */
	const char *introspect_scope; /* with this scope, or NULL */
	const char *name_claim;	/* that tells who an approver or an agent is; NULL: sub */
	enum idp_name name_from; /* whose claim that is */
	enum idp_dpop dpop; /* RFC 9449: tokens are bound to a key that keyd has */
	uint64_t timeout_ms;	 /* one request; default 5 s */
	uint64_t recheck_ms, recheck_tolerance_ms; /* as of struct cfg_way, for `approval: idp` */
	uint64_t skew_ms;	 /* clock tolerance; default 30 s */
	bool allow_http;	 /* issuer may be http:// on a loopback address only */
};

/* How authd asks for an approval. */
enum way_kind {
	WAY_CLIENT_CREDENTIALS, /* RFC 6749 4.4: the provider's policy about Tidegate and the agent */
	WAY_TOKEN_EXCHANGE,	/* RFC 8693: the same about the agent's own token */
	WAY_CIBA,		/* OpenID CIBA: a person, on a device of theirs */
	WAY_DEVICE,		/* RFC 8628: a person, with a code */
	WAY_INTROSPECTION,	/* RFC 7662: the agent's own token is still good */
	WAY_AUTHZEN,		/* a policy decision point */
	WAY_SAML_BEARER,	/* RFC 7522: as token exchange, the agent's token is an assertion */
	WAY_SAML,		/* the agent's own SAML assertion, verified here */
};
enum way_delivery { DELIVERY_POLL, DELIVERY_PING };
enum way_binding { BINDING_LONG, BINDING_SHORT, BINDING_NONE };

/* Of `by: saml`: what its assertions must say. */
struct cfg_saml {
	const char *issuer, *audience, *recipient; /* NULL: not `by: saml` */
	const char *certificate_file; /* PEM, the issuer's, one or more */
	bool once;     /* an assertion approves one time only */
	bool response; /* it comes in a samlp:Response */
	uint64_t lifetime_ms, skew_ms;
};

/* One element of `approvals:`. */
struct cfg_way {
	const char *name;
	enum way_kind kind;
	const char *scope;		/* OAuth kinds */
	const char *audience, *resource; /* NULL: those of idp */
	const char *login_hint;		/* CIBA: template, see tidegate.yaml(5) */
	bool hint_token;		/* CIBA: the agent's own token says whom, no hint */
	enum way_binding binding;	/* CIBA: binding_message */
	enum way_delivery delivery;	/* CIBA: how a decision is learned of */
	bool details;			/* RFC 9396: asked for, and the token must carry them */
	const char *const *approvers;	/* `sub` of those who may approve; NULL: any */
	const char *const *groups;	/* or a value of their claim `groups_claim`; NULL: any */
	const char *groups_claim;
	const char *const *acr; /* acceptable `acr`; NULL: any */
	uint64_t max_age_ms;	/* since the approver authenticated; 0: any */
	uint64_t poll_ms;	/* CIBA, device: between two questions if the provider names none */
	const char *url;	/* AuthZEN: the evaluation endpoint, or */
	const char *decision_point; /* whose metadata tell it */
	uint64_t timeout_ms;	/* AuthZEN: of a question */
	const char *ca_file;	/* AuthZEN; NULL: the system's */
	struct cfg_saml saml;
	uint64_t recheck_ms;	/* the token of a grant is introspected so often; 0: never */
	uint64_t recheck_tolerance_ms; /* and this may fail for so long */
	const char *then;	/* another way that has to say yes after this one, or NULL */
	uint32_t line;
};

#endif
