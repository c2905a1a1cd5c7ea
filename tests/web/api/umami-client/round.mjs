// Drives Umami's own client, unchanged, from login to logout against a running server.
//
//   SITE=http://127.0.0.1:8000 USERNAME=admin PASSWORD=… node round.mjs
//
// Prints a line for each call and exits with 1 if one went wrong: an answer that its types don't
// allow, a refusal that should have been an answer, or an answer that should have been a refusal.
import { randomBytes, randomUUID } from 'node:crypto';
import { UmamiClient, isUmamiApiError, operations } from '@umami/api-client';
import { complaintsOf } from './shapes.mjs';

const { SITE, USERNAME, PASSWORD } = process.env;
const complaints = complaintsOf(Object.keys(operations));
// Where our contract and the client's types differ, the contract wins.
const BY_CONTRACT = [
  // The seed names exactly six keys.
  /^createPixel\b.*\.(updatedAt|deletedAt): missing$/,
  // Its generator typed the whole table, with the password; it answers what updateUser does.
  /^getUser\./,
  // Its generator took an object for a list.
  /^getWebsiteEventStats\.data\.(comparison|length)\b/,
  // Umami sends no `t` there.
  /^getRealtime\.series\.(views|visitors)\[\d+\]\.t: missing$/,
  // Umami answers JSON that holds a ZIP, we the file.
  /^exportWebsite\b/,
];

const tally = { ok: 0, FAIL: 0 };
let last = '-';
const spy = async (url, init) => {
  const response = await fetch(url, init);
  last = `${response.status} ${init.method} ${new URL(url).pathname}`;
  return response;
};
const client = options => new UmamiClient({ baseUrl: `${SITE}/api`, fetch: spy, timeout: 15000, ...options });

function say(problem, name) {
  tally[problem ? 'FAIL' : 'ok']++;
  console.log(`${problem ? 'FAIL' : 'ok  '} ${name.padEnd(34)} ${last}${problem ? `  <- ${problem}` : ''}`);
}

// Calls `operation`, holds the answer against its type and against `expected`, and returns it.
async function call(as, operation, input, expected = () => true, note = '') {
  const name = operation + (note && ` (${note})`);
  try {
    const answer = await as[operation](input);
    const wrong = complaints(operation, answer).filter(text => !BY_CONTRACT.some(known => known.test(text)));
    say(wrong.join(', ') || (expected(answer) ? '' : `unexpected: ${JSON.stringify(answer)}`), name);
    return answer;
  } catch (error) {
    say(String(error), name);
    return undefined;
  }
}

async function refused(as, operation, input, status, code, note) {
  const name = `${operation} (${note})`;
  try {
    say(`answered ${JSON.stringify(await as[operation](input))}`, name);
  } catch (error) {
    const met = isUmamiApiError(error) && error.status === status && error.code === code;
    say(met ? '' : `${error.status} ${error.code}, not ${status} ${code}`, name);
  }
}

const ok = answer => answer.ok === true;
const lists = id => page => page.data.some(row => row.id === id);

const tag = randomBytes(4).toString('hex');
const name = `round-${tag}`;
const secret = `Secret-${tag}-1`;

// --- Signing in
await refused(client(), 'login', { username: USERNAME, password: `${PASSWORD}x` }, 401, 'incorrect-username-password', 'wrong password');
await refused(client(), 'getMe', {}, 401, 'unauthorized', 'no token');
await refused(client({ token: 'nonsense' }), 'getMe', {}, 401, 'unauthorized', 'bad token');
const session = await call(client(), 'login', { username: USERNAME, password: PASSWORD }, answer => answer.user.isAdmin);
const me = session.user.id;
const admin = client({ token: session.token });
await call(admin, 'verify', {}, answer => answer.id === me);
await call(admin, 'getMe', {}, answer => answer.user.id === me);

// --- Users
const user = await call(admin, 'createUser', { username: name, password: secret, role: 'user' });
const userId = user.id;
await refused(admin, 'createUser', { username: name, password: secret, role: 'user' }, 409, 'username-taken', 'taken');
await refused(admin, 'createUser', { username: `${name}x`, password: 'short', role: 'user' }, 400, 'bad-request', 'short password');
await call(admin, 'getUser', { userId }, answer => answer.username === name && !('password' in answer));
await call(admin, 'updateUser', { userId, username: name, role: 'view-only' }, answer => answer.role === 'view-only');
await call(admin, 'updateUser', { userId, role: 'user' }, answer => answer.role === 'user', 'back');
const { token } = await call(client(), 'login', { username: name, password: secret }, answer => !answer.user.isAdmin, 'as the user');
const other = client({ token });
await refused(other, 'createUser', { username: `${name}y`, password: secret, role: 'user' }, 403, 'forbidden', 'no admin');
await refused(other, 'getUser', { userId: me }, 404, 'not-found', 'no admin');

// --- Teams
const [team] = await call(admin, 'createTeam', { name: `Team ${tag}` }, ([made, owner]) => owner.teamId === made.id);
const teamId = team.id;
await call(admin, 'getTeams', { page: 1, pageSize: 50 }, lists(teamId));
await call(admin, 'getMyTeams', { pageSize: 50 }, lists(teamId));
await call(admin, 'getTeam', { teamId }, answer => answer.accessCode === team.accessCode);
await call(admin, 'updateTeam', { teamId, name: `Team ${tag} b` }, answer => answer.name.endsWith('b'));
await refused(other, 'getTeam', { teamId }, 404, 'not-found', 'stranger');
await refused(other, 'joinTeam', { accessCode: 'team_nonsense' }, 404, 'not-found', 'wrong code');
await call(other, 'joinTeam', { accessCode: team.accessCode }, answer => answer.role === 'team-member');
await call(other, 'getTeam', { teamId }, answer => answer.accessCode === null, 'member');
await call(other, 'verify', {}, answer => answer.teams[0].id === teamId, 'with a team');
await call(admin, 'getUserTeams', { userId }, lists(teamId));
await call(admin, 'getTeamUsers', { teamId, search: tag }, page => page.data[0].user.username === name);
await call(admin, 'getTeamUser', { teamId, userId });
await call(admin, 'updateTeamUser', { teamId, userId, role: 'team-manager' }, answer => answer.role === 'team-manager');
await call(admin, 'deleteTeamUser', { teamId, userId }, ok);
await call(admin, 'createTeamUser', { teamId, userId, role: 'team-view-only' }, answer => answer.userId === userId);

// --- Pixels
const slug = `round ${tag}/é`;
const pixel = await call(admin, 'createPixel', { name: `Pixel ${tag}`, slug }, answer => answer.userId === me && answer.teamId === null);
const pixelId = pixel.id;
const own = randomUUID();
await call(admin, 'createPixel', { id: own, name: 'T', slug: `t-${tag}`, teamId }, answer => answer.id === own && answer.userId === null, 'team, id');
await refused(admin, 'createPixel', { name: 'x', slug }, 409, 'slug-taken', 'slug taken');
await refused(admin, 'createPixel', { slug: `n-${tag}` }, 400, 'bad-request', 'no name');
await refused(other, 'createPixel', { name: 'x', slug: `v-${tag}`, teamId }, 403, 'forbidden', 'view-only in the team');
await call(admin, 'getPixels', { page: 1, pageSize: 10, search: tag.toUpperCase(), orderBy: 'createdAt', sortDescending: 'true' }, lists(pixelId));
await call(other, 'getTeamPixels', { teamId }, lists(own));
await call(admin, 'getPixel', { pixelId }, answer => answer.slug === slug);
await call(admin, 'updatePixel', { pixelId, name: `Pixel ${tag} b`, slug }, answer => answer.name.endsWith('b'));
await refused(admin, 'getPixel', { pixelId: randomUUID() }, 404, 'not-found', 'unknown');
await refused(other, 'getPixel', { pixelId }, 404, 'not-found', 'stranger');

// --- Hits
const userAgent = 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36';
const image = await spy(`${SITE}/api/send?slug=${encodeURIComponent(slug)}&utm_source=round`, { method: 'GET', headers: { 'user-agent': userAgent } });
say(image.status === 200 && (await image.arrayBuffer()).byteLength === 43 ? '' : 'not the image', 'the image');
const event = { pixel: pixelId, url: '/mail?utm_medium=email', referrer: 'https://mail.example.org/', userAgent };
await call(client(), 'send', { type: 'event', payload: event }, answer => answer.sessionId && answer.visitId);
await refused(client(), 'send', { type: 'event', payload: { url: '/' } }, 400, 'bad-request', 'no pixel');
// The client makes an object of a list, which Umami refuses too.
const listed = [{ type: 'event', payload: { website: pixelId, url: '/', userAgent } }];
const sent = await spy(`${SITE}/api/batch`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(listed) });
const batch = await sent.json();
say([...complaints('batch', batch), ...(batch.processed === 1 ? [] : ['not processed'])].join(', '), 'batch');

// --- Statistics, through the websites' routes with the pixel's id
const range = { websiteId: pixelId, startAt: Date.now() - 86400000, endAt: Date.now() + 60000 };
await call(admin, 'getWebsiteStats', { ...range, class: 'all' }, answer => answer.pageviews >= 1);
const dates = { startDate: new Date(range.startAt), endDate: new Date(range.endAt) };
await call(admin, 'getWebsiteStats', { websiteId: pixelId, ...dates, browser: 'eq.chrome,firefox', compare: 'yoy' }, answer => answer.pageviews >= 1, 'dates, filter');
await call(admin, 'getWebsitePageviews', { ...range, unit: 'hour', timezone: 'Europe/Paris' }, answer => answer.pageviews[0].y >= 1);
await call(admin, 'getWebsitePageviews', { ...range, unit: 'day', timezone: 'UTC', compare: 'prev' }, answer => Array.isArray(answer.compare.sessions), 'compare');
for (const type of ['browser', 'os', 'device', 'country', 'referrer', 'channel', 'utmSource', 'language', 'query', 'hostname', 'path', 'title'])
  await call(admin, 'getWebsiteMetrics', { ...range, type, limit: 10, class: 'all' }, Array.isArray, type);
await refused(admin, 'getWebsiteMetrics', { ...range, type: 'nonsense' }, 400, 'bad-request', 'bad type');
await call(admin, 'getWebsiteExpandedMetrics', { ...range, type: 'browser' }, rows => rows[0].pageviews >= 1);
await call(admin, 'getWebsiteActive', { websiteId: pixelId }, answer => answer.visitors >= 1);
await call(admin, 'getWebsiteDateRange', { websiteId: pixelId });
await call(admin, 'getWebsiteEvents', { ...range, pageSize: 5 }, page => page.data[0].websiteId === pixelId);
await call(admin, 'getWebsiteValues', { ...range, type: 'browser' }, Array.isArray);
await call(admin, 'getWebsite', { websiteId: pixelId }, answer => answer.id === pixelId);
await call(admin, 'getPixelsCharts', { ids: `${pixelId},${own}`, ...range, timezone: 'Europe/Paris' }, answer => answer.data[pixelId].values.length > 0);
await refused(other, 'getWebsiteStats', range, 404, 'not-found', 'stranger');
await call(admin, 'getWebsiteSessions', range, page => page.data[0].websiteId === pixelId);
await call(admin, 'getWebsiteSessionStats', range, answer => answer.pageviews.value >= 1);
await call(admin, 'getWebsiteSessionsWeekly', { ...range, timezone: 'Europe/Paris' }, days => days.length === 7);
await call(admin, 'getWebsiteEventSeries', { ...range, unit: 'hour' }, points => points[0].y >= 1);
await call(admin, 'getWebsiteEventStats', range, answer => answer.data.events >= 1);
await call(admin, 'getWebsiteUtmMetrics', { ...range, type: 'utmSource' }, rows => rows[0].utm === 'round');
await call(admin, 'getRealtime', range, answer => answer.totals.views >= 1);
await call(admin, 'exportWebsite', range);

// --- The sites: a pixel wherever a website is looked for
const site = page => page.data.some(website => website.id === pixelId && website.domain === slug);
await call(admin, 'listWebsites', { pageSize: 100 }, site);
await call(admin, 'listWebsites', { includeTeams: true, search: tag }, lists(own), 'with teams');
await call(admin, 'getMyWebsites', { pageSize: 100 }, site);
await call(admin, 'getUserWebsites', { userId: me, pageSize: 100 }, site);
await call(admin, 'getTeamWebsites', { teamId }, lists(own));
await call(admin, 'getWebsitesCharts', { ids: pixelId, ...range, timezone: 'UTC' }, answer => answer.data[pixelId].total >= 1);
await refused(other, 'getUserWebsites', { userId: me }, 404, 'not-found', 'stranger');

// --- Shares
const share = await call(admin, 'createPixelShare', { pixelId, name: 'Round', parameters: { overview: true } }, answer => answer.shareType === 3 && answer.entityId === pixelId);
const shareId = share.id;
await call(admin, 'getPixelShares', { pixelId }, lists(shareId));
const opened = await call(client(), 'getShareBySlug', { slug: share.slug }, answer => answer.websiteId === pixelId);
const guest = client({ headers: { 'x-umami-share-token': opened.token, 'x-umami-share-context': '1' } });
await call(guest, 'getWebsiteStats', range, answer => answer.pageviews >= 1, 'share');
const blind = client({ headers: { 'x-umami-share-token': opened.token } });
await refused(blind, 'getWebsiteStats', range, 401, 'unauthorized', 'no context');
await refused(guest, 'getWebsiteStats', { ...range, websiteId: own }, 404, 'not-found', 'share of another');
await refused(guest, 'updatePixel', { pixelId, name: 'no' }, 401, 'unauthorized', 'share');
await refused(guest, 'getPixels', {}, 401, 'unauthorized', 'share');
await call(admin, 'getShare', { shareId });
await call(admin, 'updateShare', { shareId, name: 'Round b', slug: share.slug, parameters: {} }, answer => answer.name === 'Round b');
const second = await call(admin, 'createShare', { entityId: pixelId, shareType: 3, name: 'Round c', parameters: {} });
await call(admin, 'deleteShare', { shareId: second.id }, ok, 'second');
await call(admin, 'deleteShare', { shareId }, ok);
await refused(client(), 'getShareBySlug', { slug: share.slug }, 404, 'not-found', 'deleted');
await refused(guest, 'getWebsiteStats', range, 401, 'unauthorized', 'share deleted');

// --- API keys and the password
const key = await call(admin, 'createMyApiKey', { name: 'round' });
await call(admin, 'getMyApiKeys', {}, keys => keys.some(listed => listed.id === key.id && !('key' in listed)));
await call(client({ apiKey: key.key }), 'getPixels', {}, lists(pixelId), 'apiKey option');
await call(admin.withToken(key.key), 'getPixels', {}, lists(pixelId), 'key as token');
await call(admin, 'deleteMyApiKey', { keyId: key.id }, ok);
await refused(client({ apiKey: key.key }), 'getPixels', {}, 401, 'unauthorized', 'deleted key');
await refused(other, 'updateMyPassword', { currentPassword: 'wrong-one', newPassword: `${secret}2` }, 400, 'bad-request', 'wrong');
await call(other, 'updateMyPassword', { currentPassword: secret, newPassword: `${secret}2` }, answer => answer.id === userId);
await refused(other, 'getMe', {}, 401, 'unauthorized', 'token of before');
await call(client(), 'login', { username: name, password: `${secret}2` }, answer => answer.token, 'new password');

// --- The end
await call(admin, 'deletePixel', { pixelId }, ok);
await refused(admin, 'getPixel', { pixelId }, 404, 'not-found', 'deleted');
await call(admin, 'deleteTeam', { teamId }, ok);
await refused(admin, 'getPixel', { pixelId: own }, 404, 'not-found', 'went with its team');
await call(admin, 'deleteUser', { userId }, ok);
await refused(client(), 'login', { username: name, password: `${secret}2` }, 401, 'incorrect-username-password', 'deleted user');
await call(admin, 'logout', {}, ok);
await refused(admin, 'getMe', {}, 401, 'unauthorized', 'after logout');

console.log(`${tally.ok} calls went right, ${tally.FAIL} wrong`);
process.exit(tally.FAIL ? 1 : 0);
