/**
 * A parser of event streams (WHATWG HTML, section 9.2.6). It accepts bytes in pieces of any size.
 *
 * @param {(event: {type: string, data: string, id: string}) => void} onEvent for each event that has data
 */
export class EventParser {
  /** The reconnection time that the server has set, in ms. @type {number|undefined} */ retry;
  /** The id of the last complete event, with data or without. */ lastEventId = "";
  #onEvent;
  #decoder = new TextDecoder(); // removes a leading BOM, and keeps incomplete characters
  #rest = ""; // an incomplete line
  #afterCR = false; // the last piece ended with CR: an LF that begins the next one belongs to it
  #type = ""; #data = []; #id = "";

  constructor(onEvent) { this.#onEvent = onEvent; }

  /** @param {Uint8Array} bytes */
  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return;
    if (this.#afterCR && text[0] === "\n") text = text.slice(1);
    this.#afterCR = text === "" ? false : text.endsWith("\r");
    const lines = text.split(/\r\n|\n|\r/);
    lines[0] = this.#rest + lines[0];
    this.#rest = lines.pop();
    lines.forEach((line) => this.#line(line));
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    switch (field) {
      case "event": this.#type = value; break;
      case "data": this.#data.push(value); break;
      case "id": if (!value.includes("\0")) this.#id = value; break;
      case "retry": if (/^[0-9]+$/.test(value)) this.retry = Number(value); break;
      default: // is ignored
    }
  }

  #dispatch() {
    const type = this.#type || "message", data = this.#data;
    this.lastEventId = this.#id;
    this.#type = "";
    this.#data = [];
    if (data.length) this.#onEvent({ type, data: data.join("\n"), id: this.#id });
  }
}
