// What Umami's client promises of an answer in its TypeScript types, checked on real values.
//
// The types are read with TypeScript's own compiler. Some are nearer to Umami's tables than to what
// it answers: a column that may be null is typed as if it were not (NULLABLE).
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import ts from 'typescript';

const NULLABLE = new Set([
  ...['accessCode', 'createdBy', 'deletedAt', 'lastUsedAt', 'logoUrl', 'replayConfig', 'resetAt', 'shareId'],
  ...['browser', 'city', 'country', 'device', 'hostname', 'language', 'os', 'referrerDomain', 'region', 'screen'],
  ...['teamId', 'userId'],
]);
const DEPTH_MAX = 6;
const HERE = import.meta.dirname ?? dirname(new URL(import.meta.url).pathname);
const SOURCE = join(HERE, 'answers.ts');

export function complaintsOf(operations) {
  const text = operations
    .map(name => `export type ${name} = OperationOutput<'${name}'>;`)
    .join('\n');
  const checker = check(`import type { OperationOutput } from '@umami/api-client';\n${text}\n`);
  return (name, value) => complaints(checker, checker.typeNamed(name), value, name, 0);
}

function check(text) {
  const options = { module: ts.ModuleKind.NodeNext, strict: true, noEmit: true, types: [] };
  const host = ts.createCompilerHost(options);
  const read = host.getSourceFile.bind(host);
  host.getSourceFile = (file, ...rest) =>
    file === SOURCE ? ts.createSourceFile(file, text, ts.ScriptTarget.ESNext) : read(file, ...rest);
  const program = ts.createProgram([SOURCE], options, host);
  const checker = program.getTypeChecker();
  const exported = checker.getExportsOfModule(
    checker.getSymbolAtLocation(program.getSourceFile(SOURCE)),
  );
  const named = new Map(exported.map(symbol => [symbol.name, checker.getDeclaredTypeOfSymbol(symbol)]));
  checker.typeNamed = name => named.get(name);
  return checker;
}

function complaints(checker, type, value, place, depth) {
  if (depth > DEPTH_MAX || type.flags & (ts.TypeFlags.Any | ts.TypeFlags.Unknown)) return [];
  if (type.isUnion()) {
    const empty = ts.TypeFlags.Null | ts.TypeFlags.Undefined;
    const kinds = type.types.filter(kind => (value ?? null) === null || !(kind.flags & empty));
    const tried = kinds.map(kind => complaints(checker, kind, value, place, depth));
    return tried.reduce((least, found) => (found.length < least.length ? found : least));
  }
  if (type.flags & ts.TypeFlags.Null) return value === null ? [] : [`${place}: not null`];
  if (type.flags & ts.TypeFlags.Undefined) return value === undefined ? [] : [`${place}: given`];
  for (const [flag, kind] of KINDS)
    if (type.flags & flag) return typeof value === kind ? [] : [`${place}: not a ${kind}`];
  if (checker.isTupleType(type)) return tuple(checker, type, value, place, depth);
  if (checker.isArrayType(type)) return list(checker, type, value, place, depth);
  return keys(checker, type, value, place, depth);
}

const KINDS = [
  [ts.TypeFlags.StringLike, 'string'],
  [ts.TypeFlags.NumberLike, 'number'],
  [ts.TypeFlags.BooleanLike, 'boolean'],
];

function tuple(checker, type, value, place, depth) {
  const kinds = checker.getTypeArguments(type);
  if (!Array.isArray(value) || value.length !== kinds.length) return [`${place}: not a tuple`];
  return kinds.flatMap((kind, at) =>
    complaints(checker, kind, value[at], `${place}[${at}]`, depth + 1),
  );
}

function list(checker, type, value, place, depth) {
  if (!Array.isArray(value)) return [`${place}: not an array`];
  const [kind] = checker.getTypeArguments(type);
  return value.flatMap((member, at) => complaints(checker, kind, member, `${place}[${at}]`, depth + 1));
}

function keys(checker, type, value, place, depth) {
  if (value === null || typeof value !== 'object') return [`${place}: not an object`];
  return checker.getPropertiesOfType(type).flatMap(property => {
    const at = `${place}.${property.name}`;
    const optional = property.flags & ts.SymbolFlags.Optional;
    if (!(property.name in value)) return optional ? [] : [`${at}: missing`];
    if (value[property.name] === null && (optional || NULLABLE.has(property.name))) return [];
    const inner = checker.getTypeOfSymbol(property);
    return complaints(checker, inner, value[property.name], at, depth + 1);
  });
}
