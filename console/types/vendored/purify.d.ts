/** What the console uses of DOMPurify. */

declare const purifier: {
  sanitize(html: string, options: object): any;
};
export default purifier;
