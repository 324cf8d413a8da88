declare module "*.mjs" {
    const instantiate: (options: object) => Promise<never>;
    export default instantiate;
}
