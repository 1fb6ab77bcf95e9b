/**
 * The URL of a safe link, or undefined. Safe links are paths on this server, and http(s) URLs. The server has the same rule
 * (jobs.SafeLink); test/links.json tests both.
 */
export function safeLink(link, here = location.href) {
  if (typeof link !== "string" || new TextEncoder().encode(link).length > 2000) return undefined;
  // Browsers ignore tabs and line breaks, and treat a backslash as a slash: /\evil.example is another server.
  if (!/^(https?:\/\/|\/(?!\/))[^\u0000-\u0020\u007f\\]*$/.test(link)) return undefined;
  try {
    const url = new URL(link, here);
    if (link.startsWith("/") && url.origin !== new URL(here).origin) return undefined;
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : undefined;
  } catch {
    return undefined;
  }
}
