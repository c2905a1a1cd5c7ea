// Does the main jobs through openapi-fetch, with types that openapi-typescript made of our document.
//
//   SITE=http://127.0.0.1:8000 KEY=… TAG=… node round.js
//
// It compiles only if the document's types let it, and prints what it found as JSON.
import createClient from 'openapi-fetch';
import type { components, paths } from './schema.js';

declare const process: { env: Record<string, string> };

const { SITE, KEY, TAG } = process.env;
const client = createClient<paths>({ baseUrl: SITE, headers: { Authorization: `Bearer ${KEY}` } });

// Umami's page on pixels sends a name and a slug, and no more.
const created = await client.POST('/api/pixels', { body: { name: 'Round', slug: TAG } });
const pixel: components['schemas']['PixelCreated'] = created.data!;
const path = { pixel_id: pixel.id };

const taken = await client.POST('/api/pixels', { body: { name: 'Round', slug: TAG } });
const listed = await client.GET('/api/pixels', { params: { query: { search: TAG, pageSize: 5 } } });
const changed = await client.POST('/api/pixels/{pixel_id}', {
  params: { path },
  body: { name: 'Renamed', privacy: 'full', sentCount: null },
});
const issued = await client.POST('/api/pixels/{pixel_id}/recipients', {
  params: { path },
  body: { recipients: ['anna@example.org'] },
});
await fetch(issued.data!.data[0].url, {
  headers: { 'User-Agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0' },
});
await client.POST('/api/send', {
  body: { type: 'event', payload: { pixel: pixel.id, url: '/read', userAgent: 'curl/8.0' } },
});
const range = { startAt: 0, endAt: Date.now() + 60_000 };
const stats = await client.GET('/api/pixels/{pixel_id}/stats', {
  params: { path, query: { ...range, class: 'all' } },
});
const browsers = await client.GET('/api/pixels/{pixel_id}/metrics', {
  params: { path, query: { ...range, type: 'browser', country: 'neq.US' } },
});
const all = await client.GET('/api/pixels/{pixel_id}/metrics', {
  params: { path, query: { ...range, type: 'browser' } },
});
const share = await client.POST('/api/pixels/{pixel_id}/shares', {
  params: { path },
  body: { name: 'Round' },
});
const opened = await client.GET('/api/share/{slug}', { params: { path: { slug: share.data!.slug } } });
const deleted = await client.DELETE('/api/pixels/{pixel_id}', { params: { path } });

console.log(
  JSON.stringify({
    slug: pixel.slug,
    taken: taken.error!.error.code,
    listed: listed.data!.data.map((website) => website.id === pixel.id),
    changed: changed.data!.name,
    recipient: issued.data!.data[0].recipient,
    pageviews: stats.data!.pageviews,
    filtered: browsers.data,
    browsers: all.data,
    shared: opened.data!.pixelId === pixel.id,
    deleted: deleted.data!.ok,
  }),
);
