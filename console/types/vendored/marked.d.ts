/** What the console uses of marked. */

export interface Token {
  type: string;
  raw: string;
  text?: string;
  tokens?: Token[];
}
export class Marked {
  constructor(...extensions: object[]);
  lexer(text: string): Token[];
  parser(tokens: Token[]): string;
}
