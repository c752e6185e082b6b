import type { Command, Option } from 'commander';

export type Shell = 'bash' | 'zsh' | 'fish';

interface Flag {
  readonly names: readonly string[];
  readonly help: string;
  /** What follows the flag: nothing, one of these words, a file, or something only the user knows. */
  readonly value: 'none' | 'file' | 'other' | readonly string[];
}

interface Verb {
  readonly name: string;
  readonly help: string;
  readonly flags: readonly Flag[];
  /** What may stand in place of the arguments, when that is a fixed set of words. */
  readonly words: readonly string[];
}

/** A completion script made from the command tree itself, so that it never lags behind. */
export function completionScript(program: Command, shell: Shell): string {
  const globals = program.options.filter((option) => !option.hidden).map(flag);
  // Hidden ones are for lazypull itself; `help` is added by each shell's script.
  const visible = program.createHelp().visibleCommands(program).filter((command) => command.name() !== 'help');
  const verbs = visible.map((command): Verb => ({
    name: command.name(),
    help: command.description(),
    flags: [...command.options.filter((option) => !option.hidden).map(flag), ...globals, { names: ['--help', '-h'], help: 'show help', value: 'none' }],
    words: command.registeredArguments.flatMap((argument) => argument.argChoices ?? []),
  }));
  return { bash, zsh, fish }[shell](program.name(), verbs, globals);
}

function flag(option: Option): Flag {
  const names = [option.long, option.short].filter((name) => name !== undefined);
  const takesValue = option.required || option.optional;
  return { names, help: option.description, value: option.argChoices ?? (takesValue ? (option.flags.includes('<file>') ? 'file' : 'other') : 'none') };
}

function isWords(value: Flag['value']): value is readonly string[] {
  return Array.isArray(value);
}

// Names of files complete by themselves where nothing else is offered; bash splits words at the colons of oci:DIR:TAG.
function bash(name: string, verbs: readonly Verb[], globals: readonly Flag[]): string {
  const words = (list: readonly string[]): string => `COMPREPLY=($(compgen -W ${quote(list.join(' '))} -- "$cur")); return`;
  const values = verbs.flatMap((verb) => verb.flags.flatMap((item) => (isWords(item.value) ? item.names.map((at) => `    ${quote(`${verb.name} ${at}`)}) ${words(item.value as readonly string[])} ;;`) : [])));
  const flags = verbs.map((verb) => `      ${verb.name}) ${words(verb.flags.flatMap((item) => item.names))} ;;`);
  const fixed = verbs.filter((verb) => verb.words.length > 0).map((verb) => `    ${verb.name}) ${words(verb.words)} ;;`);
  return `# bash completion for ${name}; use: source <(${name} completion bash)
_${name}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} verb= i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in -*) ;; *) verb=\${COMP_WORDS[i]}; break ;; esac
  done
  case "$verb $prev" in
${values.join('\n')}
  esac
  if [[ $cur == -* ]]; then
    case $verb in
${flags.join('\n')}
      *) ${words([...globals.flatMap((item) => item.names), '--help', '-h'])} ;;
    esac
  fi
  case $verb in
${fixed.join('\n')}
    help|'') ${words([...verbs.map((verb) => verb.name), 'help'])} ;;
  esac
}
complete -o bashdefault -o default -F _${name} ${name}
`;
}

function zsh(name: string, verbs: readonly Verb[], globals: readonly Flag[]): string {
  const text = (help: string): string => help.replace(/[[\]:\\]/g, '\\$&');
  const argument = (item: Flag): string => {
    if (item.value === 'none') return '';
    if (item.value === 'file') return ':file:_files';
    return isWords(item.value) ? `:value:(${item.value.join(' ')})` : ':value: ';
  };
  const spec = (item: Flag): string[] => item.names.map((at) => quote(`${at}[${text(item.help)}]${argument(item)}`));
  const cases = verbs.map((verb) => {
    const rest = quote(verb.words.length > 0 ? `*:value:(${verb.words.join(' ')})` : '*:image:_files');
    return `        ${verb.name}) _arguments ${[...verb.flags.flatMap(spec), rest].join(' ')} ;;`;
  });
  return `#compdef ${name}
# zsh completion for ${name}; use: source <(${name} completion zsh)
_${name}() {
  local state line
  local -a verbs
  verbs=(${verbs.map((verb) => quote(`${verb.name}:${text(verb.help)}`)).join(' ')})
  _arguments -C ${globals.flatMap(spec).join(' ')} '1: :->verb' '*:: :->rest'
  case $state in
    verb) _describe command verbs ;;
    rest)
      case $words[1] in
${cases.join('\n')}
      esac ;;
  esac
}
if [ "$funcstack[1]" = "_${name}" ]; then _${name} "$@"; else compdef _${name} ${name}; fi
`;
}

function fish(name: string, verbs: readonly Verb[], globals: readonly Flag[]): string {
  const quoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;
  const line = (condition: string, item: Flag): string => {
    const names = item.names.map((at) => (at.startsWith('--') ? `-l ${at.slice(2)}` : `-s ${at.slice(1)}`)).join(' ');
    const value = item.value === 'none' ? '' : item.value === 'file' ? ' -r' : isWords(item.value) ? ` -x -a ${quoted(item.value.join(' '))}` : ' -x';
    return `complete -c ${name}${condition} ${names}${value} -d ${quoted(item.help)}`;
  };
  const own = (verb: Verb): Flag[] => verb.flags.filter((item) => !globals.includes(item));
  return `# fish completion for ${name}; use: ${name} completion fish | source
${globals.map((item) => line('', item)).join('\n')}
${verbs.map((verb) => `complete -c ${name} -n __fish_use_subcommand -f -a ${verb.name} -d ${quoted(verb.help)}`).join('\n')}
${verbs.flatMap((verb) => [
    ...own(verb).map((item) => line(` -n '__fish_seen_subcommand_from ${verb.name}'`, item)),
    ...(verb.words.length > 0 ? [`complete -c ${name} -n '__fish_seen_subcommand_from ${verb.name}' -f -a ${quoted(verb.words.join(' '))}`] : []),
  ]).join('\n')}
`;
}

/** One word for bash and zsh. */
function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
