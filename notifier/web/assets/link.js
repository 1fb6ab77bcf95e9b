/**
 * The URL of a link that this page follows, or undefined: a path on this server, or an http(s) URL. The server has the
 * same rule (jobs.SafeLink) for what it takes in and gives out; test/links.json tests both.
 */
export function safeLink(link, here = location.href) {
  if (typeof link !== "string" || new TextEncoder().encode(link).length > 2000) return undefined;
  // Browsers drop tabs and line breaks, and take a backslash for a slash: /\evil.example is another server.
  if (!/^(https?:\/\/|\/(?!\/))[^\u0000-\u0020\u007f\\]*$/.test(link)) return undefined;
  try {
    const url = new URL(link, here);
    if (link.startsWith("/") && url.origin !== new URL(here).origin) return undefined;
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : undefined;
  } catch {
    return undefined;
  }
}
