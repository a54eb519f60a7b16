/** @typedef {{text: string, attachments: import('../../types/view').NewAttachment[]}} FirstMessage The message of a new session. */

/**
 * What the views need of the page around them.
 *
 * @typedef {object} AppContext
 * @property {import('../wire/account_watch.js').AccountState} account
 * @property {() => Promise<boolean>} refresh Asks for the state of the account at once.
 * @property {(problem: any) => void} showProblem
 * @property {(text: string, action?: {label: string, run: () => void}) => void} showToast
 * @property {() => void} openMenu Shows the sidebar on a narrow screen.
 * @property {(sessionId: string, title: string) => void} deleteSession
 * @property {(message: FirstMessage, settings: object) => Promise<void>} startSession
 * @property {() => void} forgetFirstMessage
 */

export {};
