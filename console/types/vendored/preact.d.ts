/** What the console uses of preact and htm. */

export type Component = any;
export function html(strings: TemplateStringsArray, ...values: any[]): Component;
export function render(component: Component, parent: Element): void;
export function useState<T>(initial: T | (() => T)): [T, (next: T | ((current: T) => T)) => void];
export function useEffect(effect: () => void | (() => void), inputs?: readonly unknown[]): void;
export function useLayoutEffect(effect: () => void | (() => void), inputs?: readonly unknown[]): void;
export function useMemo<T>(create: () => T, inputs: readonly unknown[]): T;
export function useCallback<T extends (...args: any[]) => any>(callback: T, inputs: readonly unknown[]): T;
export function useRef<T>(initial: T): {current: T};
