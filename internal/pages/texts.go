package pages

import "net/http"

// fallbackText is the page for a status that has none of its own.
var fallbackText = text{
	Heading: "This page could not be delivered",
	What:    "Something went wrong between your browser and this site.",
	Do: []string{
		"Try again in a moment.",
		"If it keeps happening, tell the people who run the site, with the time and the address.",
	},
	Look: "The metrics count the same causes, and the access log has the request.",
	Way:  endsAtGateway,
}

// texts holds what the embedded pages say, one for each status that the proxy answers by itself.
var texts = map[int]text{
	http.StatusBadRequest: {
		Heading: "No site at this address",
		What:    "Either no site is set up here under that name, or the request could not be understood.",
		Do: []string{
			"Check the address for typing mistakes.",
			"If the site is new, its name may not be known here yet: try again in a few minutes.",
		},
		Causes: []cause{
			{"unknown_host", "no frontend matches the name"},
			{"no_host", "the request named no host"},
			{"bad_host", "the host it named cannot exist"},
			{"bad_request", "the request breaks the rules of HTTP"},
		},
		Look: "For unknown_host, compare the name with the frontend: keys and their wildcards.",
		Way:  endsAtClient,
	},
	http.StatusMethodNotAllowed: {
		Heading: "This kind of request is not allowed",
		What:    "The request used a method, such as CONNECT or TRACE, that is never passed on to a site.",
		Do: []string{
			"Open the address in a browser.",
			"If a program made this request, check that it does not use this address as its proxy.",
		},
		Causes: []cause{{"method_refused", "the method is never passed on"}},
		Look:   "No setting allows it.",
		Way:    endsAtClient,
	},
	http.StatusRequestTimeout: {
		Heading: "The request took too long to arrive",
		What:    "The connection was open, but the request did not arrive completely in time.",
		Do: []string{
			"Check your connection and try again.",
			"If you were uploading something large, try a faster connection.",
		},
		Causes: []cause{{"request_timeout", "the client was too slow"}},
		Look:   "headerTimeout, bodyIdleTimeout and minBodyRate say how long a client may take.",
		Way:    endsAtClient,
	},
	http.StatusRequestEntityTooLarge: {
		Heading: "That is too large to send",
		What:    "The upload is larger than this site accepts.",
		Do: []string{
			"Send a smaller file, or several small ones.",
			"Ask the people who run the site what they accept.",
		},
		Causes: []cause{{"body_too_large", "the body is over the limit"}},
		Look:   "maxBodyBytes sets the limit.",
		Way:    endsAtClient,
	},
	http.StatusRequestURITooLong: {
		Heading: "The address is too long",
		What:    "The address of this page is longer than can be handled.",
		Do: []string{
			"Go to the start page of the site and follow its links from there.",
			"If a form brought you here, tell the people who run the site: it should send its data another way.",
		},
		Causes: []cause{{"target_too_long", "the request line is over the limit"}},
		Look:   "maxHeaderBytes sets the limit. A redirect that keeps adding to its own address ends here too.",
		Way:    endsAtClient,
	},
	http.StatusRequestHeaderFieldsTooLarge: {
		Heading: "Your browser sent too much along",
		What:    "The request carried more than can be handled. Most often these are cookies that have piled up.",
		Do: []string{
			"Delete the cookies of this site and try again.",
			"Try a private window: if that works, it is the cookies.",
		},
		Causes: []cause{{"head_too_large", "the header fields are over the limit"}},
		Look:   "maxHeaderBytes and maxHeaderFields set the limits.",
		Way:    endsAtClient,
	},
	http.StatusBadGateway: {
		Heading: "The site is not answering",
		What:    "The gateway is working, but it got no usable answer from the site behind it.",
		Do: []string{
			"Try again in a minute.",
			"If it lasts, tell the people who run the site.",
		},
		Causes: []cause{
			{"no_backend", "every backend is marked dead, or the frontend lists none"},
			{"backend_invalid", "the backend's URL cannot be used"},
			{"connect_failed", "nothing accepts connections there, or TLS failed"},
			{"connect_timeout", "the backend's machine does not answer"},
			{"backend_reset", "the application broke the connection off"},
			{"bad_answer", "the application did not answer in HTTP"},
			{"retries_used_up", "no attempt succeeded"},
			{"internal", "a fault of the gateway: its log has the stack"},
		},
		Look: "The log names the backend.",
		Way:  endsAtSite,
	},
	http.StatusServiceUnavailable: {
		Heading: "Too busy just now",
		What:    "This request could not be taken on at the moment. That usually passes quickly.",
		Do:      []string{"Wait a few seconds and try again."},
		Causes: []cause{
			{"backend_busy", "all connections to the backends are taken"},
			{"store_unavailable", "no routes could be read yet"},
			{"lookup_limited", "too many names without a frontend are being asked for"},
			{"draining", "this gateway is about to stop"},
		},
		Look: "/readyz and /metrics on the admin port show the state of the store.",
		Way:  endsAtGateway,
	},
	http.StatusGatewayTimeout: {
		Heading: "The site took too long to answer",
		What:    "The site accepted the request, but its answer did not come in time.",
		Do: []string{
			"Try again in a minute.",
			"If you were sending or paying for something, check first whether it went through: " +
				"the site may still have been working on it.",
		},
		Causes: []cause{
			{"response_timeout", "the backend did not begin its answer in time"},
			{"retry_timeout", "the time for all attempts together ran out"},
		},
		Look: "responseTimeout and retryTimeout set the limits. The log names the backend.",
		Way:  endsAtSite,
	},
	http.StatusLoopDetected: {
		Heading: "The request went round in circles",
		What:    "The way to this site leads back to where it began, so the request could never arrive.",
		Do:      []string{"Tell the people who run the site: only they can put this right."},
		Causes:  []cause{{"loop", "the request has passed through too many gateways"}},
		Look:    "A backend of this frontend leads back to a gateway: compare it with the addresses they listen on.",
		Way:     endsAtGateway,
	},
}
