// Users who count their own clicks while nodes crash.
//
//   k6 run -e NODES=http://127.0.0.1:8080,http://127.0.0.1:8081 benches/k6/failover.js
//   k6 run -e BASE_URL=http://balancer benches/k6/failover.js
//
// Every virtual user logs in with a user id of its own, then increments and reads its own counter
// over and over, against nodes of `examples/playground.rs`. With NODES it stays on its node and
// goes to the next one when a request fails; with HOP=1 it changes nodes for every request. With
// BASE_URL a balancer chooses.
//
// What is promised, and what makes k6 end with a failure:
//
// * A session is never lost: the cookie keeps meaning the user who logged in.
// * An acknowledged increment (status 200) counts, and counts once. A request that failed after it
//   may have been sent is *unknown*: it may count once, now or later, or never. Its repetition is
//   an increment of its own.
// * No user ever sees another user's data.
//
// Reading is a GET, which a balancer may repeat at another node; everything else is a POST.
//
// Further settings: VUS (20), DURATION (30s), ITERATIONS: the number of rounds of all users
// together, after which it ends before DURATION has passed, PAUSE_MS between two rounds (20),
// TIMEOUT of one request (5s), GIVE_UP_MS after which a user counts as cut off (30000), UNKNOWN_MS after which an
// increment without an answer cannot take effect any more (60000), SUMMARY: a file for the
// results as JSON. With SLICE_MS every user prints its results in each slice of time of that
// length and its number, one line of JSON a slice: `examples/failover_lab` draws its time line
// from them, and interrupts the load when every user has reported what came after the fault.

import http from 'k6/http';
import exec from 'k6/execution';
import { sleep } from 'k6';
import { Counter, Trend } from 'k6/metrics';

const NODES = (__ENV.BASE_URL || __ENV.NODES || 'http://127.0.0.1:8080,http://127.0.0.1:8081')
  .split(',')
  .map((url) => url.trim().replace(/\/$/, ''));
const HOP = __ENV.HOP === '1';
const PAUSE_MS = Number(__ENV.PAUSE_MS || 20);
const TIMEOUT = __ENV.TIMEOUT || '5s';
const GIVE_UP_MS = Number(__ENV.GIVE_UP_MS || 30000);
const UNKNOWN_MS = Number(__ENV.UNKNOWN_MS || 60000);
const COOKIE = __ENV.COOKIE || 'JSESSIONID';
const SLICE_MS = Number(__ENV.SLICE_MS || 0);
// Latencies are counted in steps of 5 %: at most some 300 of them from 10 µs to 30 s.
const STEP = Math.log(1.05);
const REPORT_EVERY_MS = 1000;

const acknowledged = new Counter('acknowledged_increments');
const unacknowledged = new Counter('failed_requests');
const failedReads = new Counter('failed_reads');
const lostSessions = new Counter('lost_sessions');
const lostIncrements = new Counter('lost_increments');
const doubledIncrements = new Counter('doubled_increments');
const foreignData = new Counter('foreign_data');
const cutOff = new Counter('users_cut_off');
const stall = new Trend('stall_ms');

const PROMISES = [lostSessions, lostIncrements, doubledIncrements, foreignData, cutOff];

export const options = {
  vus: Number(__ENV.VUS || 20),
  duration: __ENV.DURATION || '30s',
  ...(__ENV.ITERATIONS && { iterations: Number(__ENV.ITERATIONS) }),
  summaryTrendStats: ['med', 'p(99)', 'max'],
  thresholds: {
    acknowledged_increments: ['count>0'],
    lost_sessions: ['count==0'],
    lost_increments: ['count==0'],
    doubled_increments: ['count==0'],
    foreign_data: ['count==0'],
    users_cut_off: ['count==0'],
  },
};

// A threshold on a metric without a sample is not looked at.
export function setup() {
  for (const counter of [acknowledged, unacknowledged, failedReads, ...PROMISES]) {
    counter.add(0);
  }
}

// One virtual user; every one has a copy of its own.
const jar = new http.CookieJar();
let node = null; // index into NODES
let user = null; // the logged-in user id
let logins = 0;
let count = 0; // the counter as last seen
let unknown = []; // when increments were sent that got no answer and have not shown up yet
let slices = new Map(); // results since the last report, by number of the slice
let reportedAt = 0;

export default function () {
  round();
  if (SLICE_MS > 0) {
    report();
  }
}

function round() {
  node = node === null ? exec.vu.idInTest % NODES.length : node;
  if (user === null && !login()) {
    return;
  }
  if (increment()) {
    read();
  }
  sleep(PAUSE_MS / 1000);
}

function login() {
  const uid = `user-${exec.vu.idInTest}-${logins++}-${Date.now()}`;
  const reply = insist(`/login?uid=${uid}`);
  if (reply === null) {
    return false;
  }
  user = uid;
  count = 0;
  unknown = [];
  return true;
}

function increment() {
  const before = bareId();
  const reply = insist('/update', () => {
    unknown.push(Date.now());
  });
  if (reply === null) {
    return false;
  }
  acknowledged.add(1);
  if (bareId() !== before) {
    return lost('another id was issued');
  }
  return seen(reply.n, count + 1);
}

function read() {
  const info = insist('/info');
  if (info === null) {
    return;
  }
  if (!info.session || info.uid === null) {
    lost('the user is not logged in any more');
    return;
  }
  if (info.uid !== user) {
    foreignData.add(1);
    console.error(`foreign data: ${user} sees ${info.uid} at ${info.node}`);
    logout();
    return;
  }
  const reply = insist('/get?k=session_counter&as=u64');
  if (reply !== null) {
    seen(reply.value, count);
  }
}

// Judges a counter of which `least` is certain. Every unknown increment may have come on top.
function seen(n, least) {
  if (typeof n !== 'number') {
    return lost('the counter is gone');
  }
  const more = n - least;
  unknown = unknown.filter((at) => Date.now() - at < UNKNOWN_MS);
  if (more < 0) {
    lostIncrements.add(-more);
    console.error(`lost increments: ${user} sees ${n}, at least ${least} are certain`);
  } else if (more > unknown.length) {
    doubledIncrements.add(more - unknown.length);
    const most = least + unknown.length;
    console.error(`doubled increments: ${user} sees ${n}, at most ${most} were sent`);
  }
  unknown.splice(0, Math.max(more, 0));
  count = n;
  return true;
}

function lost(why) {
  lostSessions.add(1);
  console.error(`lost session: ${user} at ${NODES[node]}: ${why}`);
  logout();
  return false;
}

// Discards the session and the user; the next round is a new user.
function logout() {
  for (const url of NODES) {
    jar.clear(url);
  }
  user = null;
}

// Sends requests until a node answers 200. Calls `onUnknown` for every attempt that may have been
// carried out without an answer.
function insist(path, onUnknown) {
  const reads = path.startsWith('/info') || path.startsWith('/get');
  const start = Date.now();
  if (HOP) {
    node = (node + 1) % NODES.length;
  }
  while (Date.now() - start < GIVE_UP_MS) {
    const response = http.request(reads ? 'GET' : 'POST', NODES[node] + path, null, {
      jar,
      timeout: TIMEOUT,
      tags: { name: path.split('?')[0] },
    });
    const reply = answer(response);
    if (reply !== null) {
      stall.add(Date.now() - start);
      note(response, reply.node, Date.now() - start);
      return reply;
    }
    note(response, null, Date.now() - start);
    unacknowledged.add(1);
    if (reads) {
      failedReads.add(1);
    }
    if (onUnknown && !neverSent(response)) {
      onUnknown();
    }
    node = (node + 1) % NODES.length;
    sleep(0.02);
  }
  cutOff.add(1);
  console.error(`cut off: no node answers ${path}`);
  return null;
}

// What a node has answered; null when it was no answer: a failure, or not from a node.
function answer(response) {
  if (response.status !== 200) {
    return null;
  }
  try {
    return response.json();
  } catch (error) {
    console.error(`not from a node: ${response.url}: ${error}`);
    return null;
  }
}

// Counts a response, of whichever status, in its slice of time. A request without an answer has no
// latency.
function note(response, by, waited) {
  if (SLICE_MS === 0) {
    return;
  }
  const at = Math.floor(Date.now() / SLICE_MS);
  if (!slices.has(at)) {
    slices.set(at, { user: exec.vu.idInTest, at, failed: 0, stall: 0, nodes: {}, steps: {} });
  }
  const slice = slices.get(at);
  if (response.status !== 0) {
    const step = Math.round(Math.log(Math.max(response.timings.duration, 0.01)) / STEP);
    slice.steps[step] = (slice.steps[step] || 0) + 1;
  }
  slice.stall = Math.max(slice.stall, waited);
  if (by !== null) {
    slice.nodes[by] = (slice.nodes[by] || 0) + 1;
  } else {
    slice.failed += 1;
  }
}

// Prints the results, once a second and after each of the last rounds.
function report() {
  const ran = Date.now() - exec.scenario.startTime;
  const left = ran / Math.max(exec.scenario.progress, 0.001) - ran;
  if (left > REPORT_EVERY_MS && Date.now() - reportedAt < REPORT_EVERY_MS) {
    return;
  }
  for (const slice of slices.values()) {
    console.log(JSON.stringify(slice));
  }
  slices = new Map();
  reportedAt = Date.now();
}

// Whether the connection could not even be made: k6's codes 1210 to 1219.
function neverSent(response) {
  return response.error_code >= 1210 && response.error_code < 1220;
}

// The session's id without the route, which changes when another node serves.
function bareId() {
  const cookies = jar.cookiesForURL(NODES[node])[COOKIE];
  return cookies ? cookies[0].split('.')[0] : null;
}

export function handleSummary(data) {
  const value = (metric, key) => (data.metrics[metric] ? data.metrics[metric].values[key] : 0);
  const lines = [
    ['requests', value('http_reqs', 'count')],
    ['failed requests', value('failed_requests', 'count')],
    ['acknowledged increments', value('acknowledged_increments', 'count')],
    ['lost sessions', value('lost_sessions', 'count')],
    ['lost increments', value('lost_increments', 'count')],
    ['doubled increments', value('doubled_increments', 'count')],
    ['foreign data', value('foreign_data', 'count')],
    ['users cut off', value('users_cut_off', 'count')],
    ['longest stall', `${value('stall_ms', 'max')} ms`],
    ['request p99', `${value('http_req_duration', 'p(99)').toFixed(1)} ms`],
  ];
  const text = lines.map(([name, text]) => `${name.padEnd(24)} ${text}\n`).join('');
  const numbers = {};
  for (const name of Object.keys(data.metrics)) {
    numbers[name] = data.metrics[name].values;
  }
  const summary = __ENV.SUMMARY ? { [__ENV.SUMMARY]: JSON.stringify(numbers) } : {};
  return { stdout: text, ...summary };
}
