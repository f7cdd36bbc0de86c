# Two nodes cannot reach each other, but the master reaches both: both stay Ready; what does not need the other goes on.
web web 3
asker left node1
other=$(k get pods -l app=web --field-selector spec.nodeName=node2 -o jsonpath='{.items[0].status.podIP}')
third=$(k get pods -l app=web --field-selector spec.nodeName=node3 -o jsonpath='{.items[0].status.podIP}')
check "at first, they reach each other's pods" ask_from left "http://$other:8080/"
cut node1 "$(address_of node2)"
unreached() { ! ask_from left "http://$other:8080/" 2>/dev/null; }
check "then they do not" unreached
check "the third node's pods are reached" ask_from left "http://$third:8080/"
sleep 50 # longer than the master's patience with a silent node
both_ready() { is_ready node1 && is_ready node2; }
check "both are Ready after 50 s" both_ready
heal node1
eventually 20 "healed, they reach each other's pods again" ask_from left "http://$other:8080/"
