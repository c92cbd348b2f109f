// Package pages holds the bodies of the answers that the proxy makes itself.
//
// For each status there is, in this order: the operator's error_<code>.html, the operator's
// error_default.html, and an embedded page that needs nothing from anywhere else. All of them are
// read before they are needed: answering a request never touches the disk and never allocates.
// No page depends on the request, so nothing that a client sent can reach one; the precise cause
// travels in the X-Sluice-Error header, which the proxy sets.
//
// A [Set] is safe for concurrent use, Reload included.
package pages
