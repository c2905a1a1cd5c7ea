// Sends hits through Umami's client for servers, unchanged.
//
//   SITE=http://127.0.0.1:8000 PIXEL=… node node_round.mjs
//
// Prints the status and the keys of each answer as JSON.
import node from '@umami/node';

// Node takes the package for CommonJS.
const { default: umami, Umami } = node;
const { SITE, PIXEL } = process.env;
const userAgent = 'Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0';

const told = async answer => ({ status: answer.status, keys: Object.keys(await answer.json()).sort() });

umami.init({ websiteId: PIXEL, hostUrl: SITE, userAgent });
const found = {
  page: await told(await umami.track({ url: '/read?utm_source=node', hostname: 'example.org', language: 'de-AT' })),
  event: await told(await umami.track('opened', { plan: 'free', at: 7 })),
  identified: await told(await umami.identify({ plan: 'free' })),
};
umami.reset();
const other = new Umami({ hostUrl: SITE, websiteId: '00000000-0000-4000-8000-000000000000' });
found.unknown = await told(await other.track('opened'));
// By its own agent it is no browser.
other.init({ websiteId: PIXEL });
found.own = await told(await other.track({ url: '/' }));
console.log(JSON.stringify(found));
