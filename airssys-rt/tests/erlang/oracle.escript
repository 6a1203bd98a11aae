#!/usr/bin/env escript
%%! +S 1:1 -noinput
%% What OTP's supervisor does in each scenario of a file: `oracle.escript SCENARIOS TRACES`.
%%
%% One scheduler, because the order of events is taken from the order in which processes of one
%% scheduler hand their messages over. The format of both files is described in `scenario.rs`.
-module(oracle).
-mode(compile).
-behaviour(supervisor).
-export([main/1, init/1, start_supervisor/2, start_worker/2, start_dynamic/3, worker/3]).

%% A file of scenarios takes seconds; one that takes this long, in milliseconds, is stuck.
-define(LIMIT, 600000).
%% Looks at the tree without it coming to rest before the scenario is called unsettled.
-define(ROUNDS, 100000).

main([Scenarios, Traces]) ->
    ok = logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    spawn(fun() -> receive after ?LIMIT -> halt("stuck") end end),
    {ok, Text} = file:read_file(Scenarios),
    {ok, File} = file:open(Traces, [write, raw, {delayed_write, 1 bsl 16, 1000}]),
    play_all(binary:split(Text, <<"\n">>, [global, trim_all]), File),
    ok = file:close(File).

play_all([], _) ->
    ok;
play_all([<<"scenario ", _/binary>> = Title | Lines], File) ->
    oracle = ets:new(oracle, [named_table, public]),
    ets:insert(oracle, {controller, self()}),
    put(root, none),
    {Rest, Trace} = play(Lines, [Title, $\n]),
    ok = file:write(File, [Trace, "end\n"]),
    ets:delete(oracle),
    play_all(Rest, File).

%% Operations -----------------------------------------------------------------------------------

play([<<"end">> | Lines], Trace) ->
    {Lines, Trace};
play([Line | Lines], Trace) ->
    {Reply, Rest} = act(words(Line), Lines),
    Look = settle(get(root)),
    Step = [<<"> ">>, Line, $\n, events(), [[<<"= ">>, R, $\n] || R <- Reply], snapshot(Look)],
    case Look of
        gone ->
            [<<"end">> | After] = lists:dropwhile(fun(L) -> L =/= <<"end">> end, Rest),
            {After, [Trace | Step]};
        _ ->
            play(Rest, [Trace | Step])
    end.

act([<<"start">> | Words], Lines) ->
    {Root, []} = node_of(Words),
    case supervisor:start_link(?MODULE, {<<"root">>, Root}) of
        {ok, Pid} ->
            put(root, Pid),
            {["ok"], Lines};
        {error, _} ->
            {["error"], Lines}
    end;
act([<<"fail">>, Path, Times], Lines) ->
    ets:insert(oracle, {{fail, Path}, binary_to_integer(Times)}),
    {["ok"], Lines};
act([<<"ignore">>, Path, Times], Lines) ->
    ets:insert(oracle, {{ignore, Path}, binary_to_integer(Times)}),
    {["ok"], Lines};
act([<<"exit">>, Sup | Exits], Lines) ->
    {exits(Sup, Exits), Lines};
act([<<"gate">>, Sup, Id, Outcome, Count], Lines) ->
    {Commands, Rest} = lists:split(binary_to_integer(Count), Lines),
    {gated(Sup, Id, binary_to_atom(Outcome), Commands), Rest};
act([<<"stop">>], Lines) ->
    Root = get(root),
    exit(Root, shutdown),
    receive {'EXIT', Root, _} -> {["ok"], Lines} end;
act(Command, Lines) ->
    {[command(Command)], Lines}.

%% Ends siblings one after the other while their supervisor is held, so that it finds their exits
%% in this order.
exits(Sup, Exits) ->
    Held = pid(Sup),
    case is_alive(Held) of
        true ->
            true = erlang:suspend_process(Held),
            Replies = each_exit(Sup, Exits),
            true = erlang:resume_process(Held),
            Replies;
        false ->
            each_exit(Sup, Exits)
    end.

each_exit(_, []) ->
    [];
each_exit(Sup, [Id, Reason | Exits]) ->
    Pid = pid(path(Sup, Id)),
    Reply =
        case is_alive(Pid) of
            true ->
                Monitor = monitor(process, Pid),
                case Reason of
                    <<"kill">> -> exit(Pid, kill);
                    _ -> Pid ! {exit_with, binary_to_atom(Reason)}
                end,
                receive {'DOWN', Monitor, process, Pid, _} -> "ok" end;
            false ->
                "not_running"
        end,
    [Reply | each_exit(Sup, Exits)].

%% The worker crashes, and the first attempt of this outcome to start it again waits until the
%% commands lie in its supervisor's mailbox: they are carried out right after this attempt.
gated(Sup, Id, Outcome, Commands) ->
    ets:insert(oracle, {{gate, path(Sup, Id)}, Outcome}),
    case exits(Sup, [Id, <<"crash">>]) of
        ["ok"] ->
            case at_gate(get(root)) of
                {gate, Pid} ->
                    Clients = [ask(Pid, words(Command)) || Command <- Commands],
                    Pid ! open,
                    [receive {'DOWN', C, process, _, {reply, R}} -> R end || C <- Clients];
                settled ->
                    ets:delete(oracle, {gate, path(Sup, Id)}),
                    ["not_reached"]
            end;
        Other ->
            ets:delete(oracle, {gate, path(Sup, Id)}),
            Other
    end.

at_gate(Root) ->
    {Settler, Monitor} = spawn_monitor(fun() -> settle(Root) end),
    receive
        {gate, Pid} ->
            exit(Settler, kill),
            receive {'DOWN', Monitor, process, Settler, _} -> {gate, Pid} end;
        {'DOWN', Monitor, process, Settler, _} ->
            settled
    end.

ask(Sup, Command) ->
    Waiting = queued(Sup),
    {_, Monitor} = spawn_monitor(fun() -> exit({reply, command(Command)}) end),
    await_queued(Sup, Waiting + 1),
    Monitor.

await_queued(Sup, Count) ->
    case queued(Sup) >= Count of
        true -> ok;
        false -> erlang:yield(), await_queued(Sup, Count)
    end.

queued(Pid) ->
    {message_queue_len, Count} = process_info(Pid, message_queue_len),
    Count.

%% Commands to a supervisor ---------------------------------------------------------------------

command([<<"add">>, Sup | Words]) ->
    {Node, []} = node_of(Words),
    reply(catch supervisor:start_child(pid(Sup), child_spec(Sup, Node)));
command([<<"terminate">>, Sup, Id]) ->
    reply(catch supervisor:terminate_child(pid(Sup), Id));
command([<<"restart">>, Sup, Id]) ->
    reply(catch supervisor:restart_child(pid(Sup), Id));
command([<<"delete">>, Sup, Id]) ->
    reply(catch supervisor:delete_child(pid(Sup), Id));
command([<<"spawn">>, Sup, Key]) ->
    reply(catch supervisor:start_child(pid(Sup), [Key]));
command([<<"drop">>, Sup, Key]) ->
    case {is_alive(pid(Sup)), pid(path(Sup, Key))} of
        {false, _} -> "gone";
        {true, nobody} -> "not_found";
        {true, Pid} -> reply(catch supervisor:terminate_child(pid(Sup), Pid))
    end;
command([<<"which">>, Sup]) ->
    case catch supervisor:which_children(pid(Sup)) of
        {'EXIT', _} -> "gone";
        Children -> ["which" | states(in_order(Children))]
    end;
command([<<"count">>, Sup]) ->
    case catch supervisor:count_children(pid(Sup)) of
        {'EXIT', _} -> "gone";
        Counts -> ["count" | figures(Counts)]
    end;
%% The running incarnation takes the new spec over; the next one starts from its parent's spec.
command([<<"upgrade">>, Sup | Words]) ->
    {Node, []} = node_of(Words),
    Pid = pid(Sup),
    case is_alive(Pid) of
        false ->
            "gone";
        true ->
            ets:insert(oracle, {{change, Pid}, Node}),
            ok = sys:suspend(Pid),
            Outcome = sys:change_code(Pid, ?MODULE, undefined, undefined),
            ok = sys:resume(Pid),
            case Outcome of
                ok -> "ok";
                {error, _} -> "invalid"
            end
    end.

reply(ok) -> "ok";
reply({ok, undefined}) -> "ignored";
reply({ok, _}) -> "ok";
reply({'EXIT', _}) -> "gone";
reply({error, already_present}) -> "already_present";
reply({error, {already_started, _}}) -> "already_started";
reply({error, running}) -> "running";
reply({error, restarting}) -> "restarting";
reply({error, not_found}) -> "not_found";
reply({error, simple_one_for_one}) -> "invalid";
reply({error, {bad_combination, _}}) -> "invalid";
reply({error, {invalid_child_spec, _}}) -> "invalid";
reply({error, _}) -> "error".

%% Supervisors and workers ----------------------------------------------------------------------

start_supervisor(Path, Node) ->
    supervisor:start_link(?MODULE, {Path, Node}).

init({Path, Started}) ->
    Node =
        case ets:lookup(oracle, {change, self()}) of
            [{_, Changed}] ->
                Changed;
            [] ->
                say([$^, Path]),
                introduce(Path),
                disown(Path, Started),
                Started
        end,
    #{strategy := Strategy, intensity := Intensity, auto := Auto, children := Children} = Node,
    Flags = #{
        strategy => Strategy,
        intensity => Intensity,
        period => 1000000,
        auto_shutdown => Auto
    },
    {ok, {Flags, [init_spec(Strategy, Path, Child) || Child <- Children]}}.

init_spec(simple_one_for_one, Path, #{manner := Manner} = Child) ->
    Spec = child_spec(Path, Child),
    Spec#{start => {?MODULE, start_dynamic, [Path, Manner]}};
init_spec(_, Path, Child) ->
    child_spec(Path, Child).

child_spec(Parent, #{id := Id, type := Type} = Node) ->
    Path = path(Parent, Id),
    Start =
        case Type of
            worker -> {?MODULE, start_worker, [Path, maps:get(manner, Node)]};
            supervisor -> {?MODULE, start_supervisor, [Path, Node]}
        end,
    Common = maps:with([id, restart, shutdown, significant, type], Node),
    Common#{start => Start}.

start_dynamic(Parent, Manner, Key) ->
    start_worker(path(Parent, Key), Manner).

start_worker(Path, Manner) ->
    Verdict = verdict(Path),
    wait_at_gate(Path, Verdict),
    case Verdict of
        fail ->
            say([$!, Path]),
            {error, refused};
        ignore ->
            say([$~, Path]),
            ignore;
        go ->
            proc_lib:start_link(?MODULE, worker, [self(), Path, Manner])
    end.

verdict(Path) ->
    case {take(fail, Path), take(ignore, Path)} of
        {true, _} -> fail;
        {false, true} -> ignore;
        {false, false} -> go
    end.

take(What, Path) ->
    case ets:lookup(oracle, {What, Path}) of
        [{_, Left}] when Left > 0 -> ets:insert(oracle, {{What, Path}, Left - 1});
        _ -> false
    end.

wait_at_gate(Path, Verdict) ->
    case ets:lookup(oracle, {gate, Path}) of
        [{_, Verdict}] ->
            ets:delete(oracle, {gate, Path}),
            controller() ! {gate, self()},
            receive open -> ok end;
        _ ->
            ok
    end.

%% The exit is traced and not reported by the worker, which could not report that it is killed.
%% The trace is handed over before anybody who waits for the exit learns of it.
worker(Parent, Path, Manner) ->
    process_flag(trap_exit, true),
    erlang:trace(self(), true, [procs, {tracer, controller()}]),
    introduce(Path),
    say([$+, Path]),
    proc_lib:init_ack(Parent, {ok, self()}),
    work(Parent, Manner).

work(Parent, Manner) ->
    receive
        {exit_with, Reason} -> exit(Reason);
        {'EXIT', Parent, Reason} when Manner =/= stubborn -> exit(Reason);
        {'EXIT', _, _} -> work(Parent, Manner)
    end.

introduce(Path) ->
    ets:insert(oracle, [{{pid, Path}, self()}, {{path, self()}, Path}]).

%% A dynamic child of an earlier incarnation has a name no more: ours are names within one.
disown(Path, #{strategy := simple_one_for_one}) ->
    Below = <<Path/binary, "/d">>,
    Mine = [P || [P] <- ets:match(oracle, {{pid, '$1'}, '_'}), string:prefix(P, Below) =/= nomatch],
    [ets:delete(oracle, {pid, P}) || P <- Mine];
disown(_, _) ->
    [].

say(Event) ->
    controller() ! {event, Event}.

controller() ->
    ets:lookup_element(oracle, controller, 2).

pid(Path) ->
    case ets:lookup(oracle, {pid, Path}) of
        [{_, Pid}] -> Pid;
        [] -> nobody
    end.

is_alive(Pid) ->
    is_pid(Pid) andalso is_process_alive(Pid).

%% What is to be seen ---------------------------------------------------------------------------

%% At rest: two looks at the whole tree in a row are equal, and all that is listed is alive.
settle(Root) ->
    settle(Root, unknown, ?ROUNDS).

settle(_, _, 0) ->
    unsettled;
settle(Root, Before, Rounds) ->
    case is_alive(Root) of
        false ->
            gone;
        true ->
            case catch look(Root) of
                Before -> Before;
                Look when is_tuple(Look), element(1, Look) =:= Root -> settle(Root, Look, Rounds - 1);
                _ -> settle(Root, unknown, Rounds - 1)
            end
    end.

look(Sup) ->
    Children = in_order(supervisor:which_children(Sup)),
    Counts = supervisor:count_children(Sup),
    [throw(moving) || {_, Child, _, _} <- Children, not at_rest(Child)],
    {Sup, Children, Counts, [look(Pid) || {_, Pid, supervisor, _} <- Children, is_pid(Pid)]}.

at_rest(undefined) -> true;
at_rest(restarting) -> false;
at_rest(Pid) -> is_process_alive(Pid).

%% `which_children` lists the newest child first. Dynamic children are kept in a map of pids, in
%% no order at all.
in_order(Children) ->
    case Children of
        [{undefined, _, _, _} | _] ->
            lists:sort([{dynamic_id(Pid), Pid, Type, M} || {_, Pid, Type, M} <- Children]);
        _ ->
            lists:reverse(Children)
    end.

dynamic_id(restarting) ->
    <<"restarting">>;
dynamic_id(Pid) ->
    Path = ets:lookup_element(oracle, {path, Pid}, 2),
    lists:last(binary:split(Path, <<"/">>, [global])).

snapshot({Sup, Children, Counts, Below}) ->
    Path = ets:lookup_element(oracle, {path, Sup}, 2),
    [[$@, Path, figures(Counts), " |", states(Children), $\n] | [snapshot(Look) || Look <- Below]];
snapshot(Other) ->
    [$@, atom_to_list(Other), $\n].

states(Children) ->
    [[$\s, Id, $:, state(Child), $:, atom_to_list(Type)] || {Id, Child, Type, _} <- Children].

state(Pid) when is_pid(Pid) -> "running";
state(Other) -> atom_to_list(Other).

figures(Counts) ->
    [
        [$\s, integer_to_list(proplists:get_value(Key, Counts))]
     || Key <- [specs, active, supervisors, workers]
    ].

events() ->
    Delivered = erlang:trace_delivered(all),
    events(Delivered).

events(Delivered) ->
    receive
        {trace_delivered, all, Delivered} ->
            [];
        {event, Event} ->
            [Event, $\n | events(Delivered)];
        {trace, Pid, exit, Reason} ->
            Path = ets:lookup_element(oracle, {path, Pid}, 2),
            [[$-, Path, $\s, atom_to_list(Reason), $\n] | events(Delivered)];
        _ ->
            events(Delivered)
    end.

%% The scenario's text --------------------------------------------------------------------------

words(Line) ->
    binary:split(Line, <<" ">>, [global]).

path(Parent, Id) ->
    <<Parent/binary, $/, Id/binary>>.

node_of([Type, Id, Restart, Shutdown, Significant | Words]) ->
    Node = #{
        type => binary_to_atom(Type),
        id => Id,
        restart => binary_to_atom(Restart),
        shutdown => shutdown(Shutdown),
        significant => binary_to_atom(Significant)
    },
    node_of(Node, Words).

node_of(#{type := worker} = Node, [Manner | Words]) ->
    {Node#{manner => binary_to_atom(Manner)}, Words};
node_of(#{type := supervisor} = Node, [Strategy, Intensity, Auto, Count | Words]) ->
    {Children, Rest} = nodes_of(binary_to_integer(Count), Words),
    Supervisor = Node#{
        strategy => binary_to_atom(Strategy),
        intensity => binary_to_integer(Intensity),
        auto => binary_to_atom(Auto),
        children => Children
    },
    {Supervisor, Rest}.

nodes_of(0, Words) ->
    {[], Words};
nodes_of(Count, Words) ->
    {Node, Rest} = node_of(Words),
    {Nodes, After} = nodes_of(Count - 1, Rest),
    {[Node | Nodes], After}.

shutdown(<<"brutal_kill">>) -> brutal_kill;
shutdown(<<"infinity">>) -> infinity;
shutdown(Milliseconds) -> binary_to_integer(Milliseconds).
