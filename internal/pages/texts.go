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
	Operator: "The metrics count the same causes, and the access log has the request.",
	Stations: [3]string{fine, failed, unasked},
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
		Operator: "unknown_host means that no frontend matches the name: add frontend:<host>. " +
			"bad_request, no_host and bad_host mean that the request itself breaks the rules of HTTP.",
		Stations: atBrowser,
	},
	http.StatusMethodNotAllowed: {
		Heading: "This kind of request is not allowed",
		What:    "The request used a method, such as CONNECT or TRACE, that is never passed on to a site.",
		Do: []string{
			"Open the address in a browser.",
			"If a program made this request, check that it is not set to use this address as its proxy.",
		},
		Operator: "No setting allows the refused methods.",
		Stations: atBrowser,
	},
	http.StatusRequestTimeout: {
		Heading: "The request took too long to arrive",
		What:    "The connection was open, but the request did not arrive completely in time.",
		Do: []string{
			"Check your connection and try again.",
			"If you were uploading something large, try a faster connection.",
		},
		Operator: "headerTimeout, bodyIdleTimeout and minBodyRate say how long a client may take.",
		Stations: atBrowser,
	},
	http.StatusRequestEntityTooLarge: {
		Heading: "That is too large to send",
		What:    "The upload is larger than this site accepts.",
		Do: []string{
			"Send a smaller file, or several small ones.",
			"Ask the people who run the site what they accept.",
		},
		Operator: "maxBodyBytes sets the limit.",
		Stations: atBrowser,
	},
	http.StatusRequestURITooLong: {
		Heading: "The address is too long",
		What:    "The address of this page is longer than can be handled.",
		Do: []string{
			"Go back to the start page of the site and follow its links from there.",
			"If a form brought you here, tell the people who run the site: it should send its data another way.",
		},
		Operator: "maxHeaderBytes sets the limit. A redirect that adds to its own address again and again ends here too.",
		Stations: atBrowser,
	},
	http.StatusRequestHeaderFieldsTooLarge: {
		Heading: "Your browser sent too much along",
		What:    "The request carried more than can be handled. Most often these are cookies that have piled up.",
		Do: []string{
			"Delete the cookies of this site and try again.",
			"Try a private window: if that works, it is the cookies.",
		},
		Operator: "maxHeaderBytes and maxHeaderFields set the limits.",
		Stations: atBrowser,
	},
	http.StatusBadGateway: {
		Heading: "The site is not answering",
		What:    "The gateway is working, but it got no usable answer from the site behind it.",
		Do: []string{
			"Try again in a minute.",
			"If it lasts, tell the people who run the site.",
		},
		Operator: "no_backend means that every backend is marked dead or the frontend lists none; connect_failed and " +
			"connect_timeout that nothing accepts connections there; backend_reset and bad_answer that the " +
			"application broke off or did not speak HTTP. The log names the backend.",
		Stations: atSite,
	},
	http.StatusServiceUnavailable: {
		Heading: "Too busy just now",
		What:    "This request could not be taken on at the moment. That usually passes quickly.",
		Do: []string{
			"Wait a few seconds and try again.",
		},
		Operator: "backend_busy means that all connections to the backends are taken; store_unavailable that no routes " +
			"could be read yet; lookup_limited that too many unknown names were asked for; draining that this " +
			"gateway is about to stop.",
		Stations: atGateway,
	},
	http.StatusGatewayTimeout: {
		Heading: "The site took too long to answer",
		What:    "The site accepted the request, but its answer did not come in time.",
		Do: []string{
			"Try again in a minute.",
			"If you were sending or paying for something, check first whether it went through: " +
				"the site may still have been working on it.",
		},
		Operator: "responseTimeout and retryTimeout set the limits. The log names the backend; look there for slow requests.",
		Stations: atSite,
	},
	http.StatusLoopDetected: {
		Heading: "The request went round in circles",
		What:    "The way to this site leads back to where it began, so the request could never arrive.",
		Do: []string{
			"Tell the people who run the site: only they can put this right.",
		},
		Operator: "A backend of this frontend leads back to a gateway. Compare its addresses with those that the " +
			"gateways listen on.",
		Stations: atGateway,
	},
}
